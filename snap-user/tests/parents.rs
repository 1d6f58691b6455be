//! The parent of an incremental image is opened by keys of its own, whatever the child is encrypted to.

mod common;

use std::io::Write as _;
use std::path::Path;

use clap::Parser as _;
use freezeframe::cli::{Cli, Command};
use freezeframe::stream::encrypt::Encryption;

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// An image that is encrypted with a passphrase.
fn sealed(folder: &Path, passphrase: &str) {
    let mut recipient = age::scrypt::Recipient::new(passphrase.to_owned().into());
    recipient.set_work_factor(2);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as _)).unwrap();
    let mut encrypted = encryptor.wrap_output(Vec::new()).unwrap();
    encrypted.write_all(&common::chain().0).unwrap();
    common::write(folder, "parent", &encrypted.finish().unwrap());
}

#[test]
fn a_parent_has_a_passphrase_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    sealed(folder, "old");
    for word in ["old", "new"] {
        common::write(folder, word, word.as_bytes());
    }
    let at = |name: &str| folder.join(name).display().to_string();
    let (parent, old, new) = (at("parent"), at("old"), at("new"));
    let request = |options: &[&str]| {
        let line = [
            "freezeframe",
            "take",
            "--pid",
            "1",
            "-o",
            "child",
            "--parent",
            &parent,
        ];
        match Cli::try_parse_from([&line, options].concat()).unwrap().command {
            Command::Take(args) => args.request(),
            other => panic!("{other:?}"),
        }
    };
    for options in [
        &["--parent-passphrase-file", &old][..],
        &["--parent-passphrase-file", &old, "--encrypt-to", RECIPIENT],
        &["--parent-passphrase-file", &old, "--passphrase-file", &new],
        &["--passphrase-file", &old],
    ] {
        let drain = request(options).unwrap().drain;
        assert_eq!(drain.parent.unwrap().image_id, "base", "{options:?}");
        let encrypted = options.len() > 2 || options[0] == "--passphrase-file";
        assert_eq!(drain.stream.encryption != Encryption::None, encrypted);
    }
    for options in [
        &[][..],
        &["--encrypt-to", RECIPIENT],
        &["--passphrase-file", &new],
    ] {
        let error = request(options).unwrap_err().to_string();
        assert!(error.contains(&parent), "{error}");
        assert!(error.ends_with(": --parent-passphrase-file FILE"), "{error}");
    }
}
