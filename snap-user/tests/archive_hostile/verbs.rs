//! What one verb refuses, all refuse: in the image, and in its parents.

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use freezeframe::archive::elsewhere::Place;
use freezeframe::cli::{Cli, Command};
use freezeframe::stream::Cancel;
use freezeframe::tools::ToolError;
use freezeframe::tools::diff::{DiffArgs, diff};
use freezeframe::tools::extract::{ExtractArgs, extract};
use freezeframe::tools::flatten::flatten;
use freezeframe::tools::input::ParentArgs;
use freezeframe::tools::scratch::Scratch;
use freezeframe::tools::verify::{VerifyArgs, verify};

use crate::common::{Draft, archive, assemble, manifest, names, write};
use crate::image_args;

fn flattened(image: &Path, output: &Path) -> anyhow::Result<()> {
    let line = [
        Path::new("freezeframe"),
        Path::new("flatten"),
        image,
        Path::new("-o"),
        output,
    ];
    let Command::Flatten(args) = Cli::try_parse_from(line)?.command else {
        panic!("{line:?}");
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(flatten(&args, Arc::default(), &Cancel::new()))
}

/// What each verb says to `image`.
fn said(folder: &Path, image: &Path) -> Vec<(&'static str, Result<(), ToolError>)> {
    let to = tempfile::tempdir_in(folder).unwrap();
    let verified = verify(&VerifyArgs {
        image: image_args(image),
        alone: false,
        json: false,
    });
    let extracted = extract(
        &ExtractArgs {
            image: image_args(image),
            pids: Vec::new(),
            folder: to.path().to_owned(),
        },
        &Scratch::default(),
    );
    let compared = diff(&DiffArgs {
        a: image.to_owned().into(),
        b: image.to_owned().into(),
        parents: ParentArgs::default(),
        json: false,
    });
    if extracted.is_err() {
        assert!(names(to.path()).is_empty(), "{extracted:?}");
    }
    let joined = flattened(image, &to.path().join("joined.tar"));
    vec![
        ("verify", verified.map(drop)),
        ("extract", extracted.map(drop)),
        ("diff", compared.map(drop)),
        ("flatten", joined.map_err(|error| error.downcast().unwrap())),
    ]
}

/// An image whose parent has pages of it.
fn child() -> Draft {
    Draft::new(1)
        .memory(0, 1, &[9])
        .memory(1, 3, &[])
        .elsewhere(1, 2, Place::Parent, 1, 1)
}

fn base() -> Draft {
    Draft::new(1).memory(0, 4, &[1, 2, 3])
}

#[test]
fn every_verb_refuses_what_is_no_state() {
    let folder = tempfile::tempdir().unwrap();
    let check = |base: Draft, child: Draft| {
        write(folder.path(), "base.tar", &archive("base", None, &[base]));
        let image = archive("child", Some("base"), &[child]);
        said(folder.path(), &write(folder.path(), "child.tar", &image))
    };
    for (verb, said) in check(base(), child()) {
        assert!(said.is_ok(), "{verb}: {said:?}");
    }
    for document in ["[]", "7", "\"x\"", "{}", ""] {
        let wrong = |draft: Draft| Draft {
            document: Some(document.into()),
            ..draft
        };
        for (base, child) in [(base(), wrong(child())), (wrong(base()), child())] {
            for (verb, said) in check(base, child) {
                let error = said.expect_err(verb);
                assert!(error.is_damage(), "{verb} {document}: {error}");
            }
        }
    }
    // serde takes the values of a mapping without their names, too.
    let mut mapping_as_list = serde_json::to_value(child().process()).unwrap();
    mapping_as_list["mappings"][0] = serde_json::json!([0, 0, "", 0, "", 0, "", [], 0, 1]);
    let child = Draft {
        document: Some(mapping_as_list.to_string().into()),
        ..child()
    };
    let flattened = check(base(), child).pop().unwrap().1;
    assert!(flattened.unwrap_err().is_damage());
}

#[test]
fn every_verb_refuses_pages_that_are_not_where_they_are_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let check = |base: &[Draft], child: &[Draft]| {
        write(folder.path(), "base.tar", &archive("base", None, base));
        let image = archive("child", Some("base"), child);
        said(folder.path(), &write(folder.path(), "child.tar", &image))
    };
    let nowhere = |draft: Draft| {
        [
            draft
                .memory(20, 1, &[])
                .elsewhere(20, 1, Place::SameArchive, 2, 77),
            Draft::new(2).memory(0, 1, &[5]),
        ]
    };
    // Of the parent it is a page that the child does not need.
    for (base, child) in [
        (&[base()][..], &nowhere(child())[..]),
        (&nowhere(base())[..], &[child()][..]),
    ] {
        for (verb, said) in check(base, child) {
            let error = said.expect_err(verb);
            assert!(error.is_damage(), "{verb}: {error}");
        }
    }
}

#[test]
fn verify_refuses_a_parent_whose_own_parent_has_not_what_it_should() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "base.tar", &archive("base", None, &[base()]));
    let check = |page| {
        let middle = base().memory(20, 1, &[]).elsewhere(20, 1, Place::Parent, 1, page);
        write(
            folder.path(),
            "middle.tar",
            &archive("middle", Some("base"), &[middle]),
        );
        let image = archive("child", Some("middle"), &[child()]);
        said(folder.path(), &write(folder.path(), "child.tar", &image))
    };
    for (verb, said) in check(2) {
        assert!(said.is_ok(), "{verb}: {said:?}");
    }
    for (verb, said) in check(3) {
        match verb {
            "verify" => assert!(said.unwrap_err().is_damage()),
            // They do not read that far.
            _ => assert!(said.is_ok(), "{verb}: {said:?}"),
        }
    }
}

#[test]
fn every_verb_compares_a_parent_with_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let child = write(
        folder.path(),
        "child.tar",
        &archive("child", Some("base"), &[child()]),
    );
    let base = [base()];
    let mut manifest = manifest("base", None, &base);
    manifest.processes[0].threads = 7;
    write(folder.path(), "base.tar", &assemble(&manifest, &base));
    for (verb, said) in said(folder.path(), &child) {
        let error = said.expect_err(verb);
        assert!(
            error.to_string().contains("the manifest says 7"),
            "{verb}: {error}"
        );
    }
}

/// Whoever went through them page by page would be at it for years.
#[test]
fn every_verb_refuses_more_pages_than_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let pages = 1 << 36;
    let most = Draft::new(1).memory(0, 1, &[1]).memory(16, pages, &[]).elsewhere(
        16,
        pages,
        Place::SameArchive,
        2,
        0,
    );
    let image = archive("a", None, &[most, Draft::new(2).memory(0, 1, &[1])]);
    let image = write(folder.path(), "image.tar", &image);
    for (verb, said) in said(folder.path(), &image) {
        if verb == "flatten" {
            continue; // it has no parent
        }
        let error = said.expect_err(verb);
        assert!(error.is_damage(), "{verb}: {error}");
    }
}
