//! A client of a database that commits one number after the other to the table `commits`, and counts them ([`Client::count`]).
//! Usage: `committer PROGRAM ARGS…`, a program that reads SQL and answers by lines: psql or sqlite3.

use std::process::Command;

use guest_tests::client::Client;

/// The second statement is answered when the first is committed.
fn tell(client: &mut Client, statement: &str, number: u64) -> Option<()> {
    client.send(&format!("{statement}; SELECT 'number:{number}';"))?;
    let answer = format!("number:{number}");
    while client.answer()? != answer {}
    Some(())
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let mut client = Client::start(Command::new(&arguments[0]).args(&arguments[1..]));
    let table = "CREATE TABLE commits (number integer PRIMARY KEY)";
    tell(&mut client, table, 0).expect("the database answers");
    client.count(|client, number| tell(client, &format!("INSERT INTO commits VALUES ({number})"), number));
}
