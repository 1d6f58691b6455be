//! Where archives come from: the image that was named, and its parents.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::ToolError;
use crate::archive::MANIFEST;
use crate::archive::manifest::Parent;
use crate::archive::read::{ArchiveReader, ReadError};
use crate::stream::open::{Keys, Location, OpenError};

/// The bytes of an archive, wherever they come from.
pub type Source = Box<dyn Read + Send>;

/// Why an archive cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// No parent is known.
    #[error(
        "{image} is an increment to image {id}, which was {name:?}; there is no such file beside it, so name it with --parent"
    )]
    NoParent {
        /// The child.
        image: String,
        /// The parent's `image_id`.
        id: String,
        /// Its name when the child was taken.
        name: String,
    },
    /// What was named as parents are others.
    #[error(
        "{image} is an increment to image {id}, which was {name:?}; none of what --parent names is that image"
    )]
    OtherParents {
        /// The child.
        image: String,
        /// The parent's `image_id`.
        id: String,
        /// Its name when the child was taken.
        name: String,
    },
}

/// The image that a tool works on.
#[derive(Clone, Debug, Args)]
pub struct ImageArgs {
    /// The image; - for standard input
    #[arg(value_name = "IMAGE|-|s3://BUCKET/KEY")]
    pub image: Location,
    /// Its parents, where it is an increment [default: what lies beside it and has their names]
    #[command(flatten)]
    pub parents: ParentArgs,
}

/// Where the parents of an image are.
#[derive(Clone, Debug, Default, Args)]
pub struct ParentArgs {
    /// The image that an incremental one builds upon, and those that this one builds upon [default: looked for beside the image]
    #[arg(long = "parent", value_name = "IMAGE")]
    pub parents: Vec<Location>,
    /// What opens them all.
    #[command(flatten)]
    pub keys: Keys,
}

/// Opens an archive and reads its manifest.
///
/// # Errors
///
/// When it cannot be had, or is none.
pub fn reader(image: &Location, keys: &Keys) -> Result<ArchiveReader<Source>, ToolError> {
    let source = crate::stream::open::open(image, keys).map_err(InputError::from)?;
    Ok(ArchiveReader::new(source, &image.to_string())?)
}

/// Finds the parents of an image, one after the other.
#[derive(Debug)]
pub struct Chain {
    image: Location,
    given: Option<Vec<Location>>,
    keys: Keys,
}

impl Chain {
    /// Of the image at `image`.
    #[must_use]
    pub fn new(image: &Location, args: &ParentArgs) -> Self {
        Self {
            image: image.clone(),
            given: (!args.parents.is_empty()).then(|| args.parents.clone()),
            keys: args.keys.clone(),
        }
    }

    /// Opens the next parent.
    ///
    /// # Errors
    ///
    /// When it is not there, or another.
    pub fn open(&mut self, wanted: &Parent) -> Result<ArchiveReader<Source>, ToolError> {
        let image = self.image.to_string();
        let fields = || (image.clone(), wanted.image_id.clone(), wanted.name.clone());
        let Some(given) = &mut self.given else {
            let Some(beside) = beside(&self.image, &wanted.name) else {
                let (image, id, name) = fields();
                return Err(InputError::NoParent { image, id, name }.into());
            };
            let found = reader(&beside, &self.keys)?;
            self.image = beside;
            return Ok(is(found, wanted)?);
        };
        for index in 0..given.len() {
            let found = reader(&given[index], &self.keys)?;
            if found.manifest().image_id == wanted.image_id {
                self.image = given.remove(index);
                return Ok(found);
            }
        }
        let (image, id, name) = fields();
        Err(InputError::OtherParents { image, id, name }.into())
    }
}

fn is<R: Read>(found: ArchiveReader<R>, wanted: &Parent) -> Result<ArchiveReader<R>, ReadError> {
    if found.manifest().image_id == wanted.image_id {
        return Ok(found);
    }
    let what = format!(
        "it is image {}, and has the name of {}, which is wanted here: name that one with --parent",
        found.manifest().image_id,
        wanted.image_id
    );
    Err(found.wrong(MANIFEST, what))
}

/// What has that name in the image's folder, or may have it where the image is in an object store. The name comes from an archive: one that leads anywhere else is no name.
fn beside(image: &Location, name: &str) -> Option<Location> {
    let is_plain = !name.contains(['/', '\0']) && !matches!(name, "" | "." | ".." | "-");
    match image {
        Location::File(path) if is_plain => {
            let path: PathBuf = path.with_file_name(name);
            path.is_file().then_some(Location::File(path))
        }
        Location::Object(url) if is_plain => {
            let (folder, _) = url.path().rsplit_once('/')?;
            let wanted = format!("{folder}/{name}");
            let mut url = url.clone();
            url.set_path(&wanted);
            // A name that means something in a URL (%2e%2e) is none.
            (url.path() == wanted).then_some(Location::Object(url))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::beside;
    use crate::stream::open::Location;

    #[test]
    fn a_parent_is_looked_for_in_the_images_folder_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("child.tar");
        let image = Location::File(path.clone());
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("secret"), "").unwrap();
        std::fs::write(folder.path().join("a/base.tar"), "").unwrap();
        assert_eq!(
            beside(&image, "base.tar"),
            Some(Location::File(path.with_file_name("base.tar")))
        );
        let absolute = folder.path().join("secret").display().to_string();
        for name in ["../secret", &absolute, "..", ".", "", "-", "other", "base.tar\0"] {
            assert_eq!(beside(&image, name), None, "{name}");
        }
        assert_eq!(beside(&Location::Stdin, "base.tar"), None);
        let object: Location = "s3://images/of/child.tar".parse().unwrap();
        let parent: Location = "s3://images/of/base.tar".parse().unwrap();
        assert_eq!(beside(&object, "base.tar"), Some(parent));
        for name in ["../secret", "..", "%2e%2e", "a/b", "a?b", "a#b", ""] {
            assert_eq!(beside(&object, name), None, "{name}");
        }
    }
}
