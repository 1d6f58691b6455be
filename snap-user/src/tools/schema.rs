//! `freezeframe schema`: the JSON schemas of the archive's documents, made from the types that read and write them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use schemars::{JsonSchema, schema_for};

use crate::archive::manifest::Manifest;
use crate::archive::process::Process;
use crate::exit::Exit;

/// `freezeframe schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Where the schemas go
    pub folder: PathBuf,
}

/// Each schema with the name of its file.
#[must_use]
pub fn schemas() -> [(&'static str, String); 2] {
    [
        ("manifest.json", schema::<Manifest>()),
        ("process.json", schema::<Process>()),
    ]
}

fn schema<T: JsonSchema>() -> String {
    format!("{:#}\n", schema_for!(T).as_value())
}

/// Runs the verb.
///
/// # Errors
///
/// When the folder does not take them.
pub fn run(args: &SchemaArgs) -> anyhow::Result<Exit> {
    for (name, text) in schemas() {
        let path = args.folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_schemas_in_the_documentation_are_current() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
        for (name, text) in super::schemas() {
            let path = folder.join(name);
            assert!(
                std::fs::read_to_string(&path).is_ok_and(|found| found == text),
                "{} is not what the types say; run: cargo run -p freezeframe -- schema docs/schema",
                path.display()
            );
        }
    }
}
