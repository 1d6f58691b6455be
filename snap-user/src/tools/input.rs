//! Where archives come from: the image that was named, and its parents.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use rustix::fs::FileType;

use super::ToolError;
use crate::archive::manifest::Parent;
use crate::archive::read::{ArchiveReader, Behind};
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
    /// What lies there is another image.
    #[error(
        "{image} is an increment to image {id}, which was {name:?}; what is beside it by that name is image {found}, so name the parent with --parent"
    )]
    OtherBeside {
        /// The child.
        image: String,
        /// The parent's `image_id`.
        id: String,
        /// Its name when the child was taken.
        name: String,
        /// The `image_id` of what has that name.
        found: String,
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
    /// A pipe, and several who want to read it.
    #[error("{0} is needed twice, and can be read only once; write it to a file and name that")]
    Once(Location),
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

impl ImageArgs {
    /// Opens the image, and gets ready to find its parents.
    ///
    /// # Errors
    ///
    /// When it cannot be had, or is none.
    pub fn open(&self) -> Result<(ArchiveReader<Source>, Chain), ToolError> {
        let chain = Chain::new(&[&self.image], &self.parents)?;
        Ok((reader(&self.image, &self.parents.keys)?, chain))
    }
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
    Ok(ArchiveReader::new(source, &image.to_string())?.followed_by(behind(image)))
}

/// A block device is larger than the archive that was written to it.
fn behind(image: &Location) -> Behind {
    let stat = match image {
        Location::File(path) => rustix::fs::stat(path),
        Location::Stdin => rustix::fs::fstat(std::io::stdin()),
        Location::Object(_) => return Behind::Nothing,
    };
    match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::BlockDevice) => Behind::Anything,
        _ => Behind::Nothing,
    }
}

/// Finds the parents of an image, one after the other.
pub struct Chain {
    image: Location,
    given: Vec<Given>,
    keys: Keys,
}

impl Chain {
    /// Of the first of `images`; [`of`](Self::of) turns to the next.
    ///
    /// # Errors
    ///
    /// When more than one of them and their parents is to come from standard input.
    pub fn new(images: &[&Location], args: &ParentArgs) -> Result<Self, InputError> {
        let named = images.iter().copied().chain(&args.parents);
        if named.filter(|location| **location == Location::Stdin).count() > 1 {
            return Err(InputError::Once(Location::Stdin));
        }
        Ok(Self {
            image: images.first().map_or(Location::Stdin, |image| (*image).clone()),
            given: args.parents.iter().map(Given::new).collect(),
            keys: args.keys.clone(),
        })
    }

    /// Finds those of another image from here on.
    pub fn of(&mut self, image: &Location) {
        self.image = image.clone();
    }

    /// Opens the next parent.
    ///
    /// # Errors
    ///
    /// When it is not there, or another.
    pub fn open(&mut self, wanted: &Parent) -> Result<ArchiveReader<Source>, ToolError> {
        let Parent { image_id, name, .. } = wanted;
        let (image, id, name) = (self.image.to_string(), image_id.clone(), name.clone());
        if self.given.is_empty() {
            let Some(beside) = beside(&self.image, &name) else {
                return Err(InputError::NoParent { image, id, name }.into());
            };
            let reader = reader(&beside, &self.keys)?;
            let found = &reader.manifest().image_id;
            if *found != id {
                let found = found.clone();
                return Err(InputError::OtherBeside {
                    image,
                    id,
                    name,
                    found,
                }
                .into());
            }
            self.image = beside;
            return Ok(reader);
        }
        for given in &mut self.given {
            if let Some(reader) = given.reader(&id, &self.keys)? {
                self.image = given.location.clone();
                return Ok(reader);
            }
        }
        Err(InputError::OtherParents { image, id, name }.into())
    }
}

/// An image that was named as a parent. Which one it is shows when it is opened.
struct Given {
    location: Location,
    image_id: Option<String>,
    /// Opened, and not wanted yet, where it can be opened only once.
    waiting: Option<ArchiveReader<Source>>,
}

impl Given {
    fn new(location: &Location) -> Self {
        Self {
            location: location.clone(),
            image_id: None,
            waiting: None,
        }
    }

    /// Its reader, if it is image `id`.
    fn reader(&mut self, id: &str, keys: &Keys) -> Result<Option<ArchiveReader<Source>>, ToolError> {
        if self.image_id.as_ref().is_some_and(|known| known != id) {
            return Ok(None);
        }
        let found = match self.waiting.take() {
            Some(waiting) => waiting,
            None if self.image_id.is_some() && !self.location.opens_again() => {
                return Err(InputError::Once(self.location.clone()).into());
            }
            None => reader(&self.location, keys)?,
        };
        let found_id = &found.manifest().image_id;
        self.image_id = Some(found_id.clone());
        if found_id == id {
            return Ok(Some(found));
        }
        self.waiting = Some(found).filter(|_| !self.location.opens_again());
        Ok(None)
    }
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
