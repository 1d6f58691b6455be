//! A client of a PostgreSQL server that writes number after number into the only row of the table `ledger`, and counts them
//! ([`Client::count`]). Usage: `clerk`; `psql` finds the server by its environment.

use std::process::Command;

use guest_tests::client::Client;

fn tell(client: &mut Client, statement: &str) -> Option<String> {
    client.send(statement)?;
    client.answer()
}

fn main() {
    let mut client =
        Client::start(Command::new("psql").args(["--quiet", "--no-psqlrc", "--tuples-only", "--no-align"]));
    let table = "CREATE TABLE ledger (mark text); INSERT INTO ledger VALUES ('') RETURNING 'there';";
    tell(&mut client, table).expect("psql answers");
    client.count(|client, number| {
        let mark = format!("mark:{number:010}");
        let answer = tell(
            client,
            &format!("UPDATE ledger SET mark = '{mark}' RETURNING mark;"),
        )?;
        assert_eq!(answer, mark);
        Some(())
    });
}
