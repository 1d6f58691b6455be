//! Object stores that speak S3. Where they are and who we are is in the environment: `AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY` and what else the AWS tools know; on a machine of theirs, its role is used.

mod upload;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, HeaderMap, HeaderValue, ObjectStoreExt as _, RetryConfig,
};
use serde::{Deserialize, Serialize};
use url::Url;

pub use self::upload::Upload;

/// A server that does not answer is given up after this.
const CONNECT: Duration = Duration::from_secs(5);
/// One part of an upload takes no longer.
const REQUEST: Duration = Duration::from_secs(120);
/// A download that gets nothing for so long is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// Nothing is tried again after this.
const RETRY: Duration = Duration::from_secs(25);

/// Why an object cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There is something of that name.
    #[error("cannot write {0}: it exists already; remove it or choose another name")]
    Exists(String),
    /// Something in the environment makes no sense, or is missing.
    #[error(
        "cannot use {url}: {source}; see AWS_ENDPOINT, AWS_REGION and the other variables of the AWS tools"
    )]
    Configuration {
        /// The object.
        url: String,
        /// What is wrong.
        source: Box<object_store::Error>,
    },
    /// The store does not take it.
    #[error("cannot write {url}: {source}; the processes are unharmed")]
    Write {
        /// The object.
        url: String,
        /// What the store said.
        source: Box<object_store::Error>,
    },
    /// Nothing can be asked of it.
    #[error("cannot start a thread for the object store: {0}; free memory, or raise `ulimit -u`")]
    Thread(std::io::Error),
    /// The store does not give it.
    #[error("cannot read {url}: {source}")]
    Read {
        /// The object.
        url: String,
        /// What the store said.
        source: Box<object_store::Error>,
    },
}

/// Tells an object from a path: `None` for a path.
///
/// # Errors
///
/// When it is an URL, but of no object.
pub fn parse(text: &str) -> Result<Option<Url>, String> {
    let Some((scheme, _)) = text.split_once("://") else {
        return Ok(None);
    };
    if !scheme.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Ok(None);
    }
    if scheme != "s3" {
        return Err(format!(
            "{scheme}:// is no store that is known: use s3://BUCKET/KEY, or ./ before the name of a file"
        ));
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let named = url.host_str().is_some_and(|bucket| !bucket.is_empty());
    let key = url.path().trim_start_matches('/');
    if !named || key.is_empty() || key.ends_with('/') || url.query().is_some() || url.fragment().is_some() {
        return Err("it is no object: s3://BUCKET/KEY".to_owned());
    }
    Ok(Some(url))
}

/// The variables of the AWS tools: where the store is, and who we are. Serialised, they hold the key: only for the daemon's socket, which is
/// root's.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Those of our environment.
    #[must_use]
    pub fn from_env() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// Those that `K` knows.
    fn known<K: FromStr>(&self) -> impl Iterator<Item = (K, &String)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, value)))
    }
}

/// Of variables of the environment, those that begin with `AWS_`.
impl FromIterator<(String, String)> for Settings {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("AWS_")?.to_ascii_lowercase();
            Some((name, value))
        });
        Self(ours.collect())
    }
}

/// Without what is secret, which is most.
impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

/// An object, and how to reach it.
#[derive(Debug)]
struct Object {
    url: Url,
    path: Path,
    settings: Settings,
}

impl Object {
    fn new(url: &Url, settings: &Settings) -> Result<Self, ObjectError> {
        let path = Path::from_url_path(url.path()).map_err(|error| ObjectError::Configuration {
            url: url.to_string(),
            source: Box::new(error.into()),
        })?;
        Ok(Self {
            url: url.clone(),
            path,
            settings: settings.clone(),
        })
    }

    /// `AWS_ALLOW_HTTP`, `AWS_PROXY_URL` and so on go before what is usual.
    fn client_options(&self, purpose: Purpose) -> ClientOptions {
        let options = ClientOptions::new().with_connect_timeout(CONNECT);
        let options = match purpose {
            Purpose::Read => options.with_timeout_disabled().with_read_timeout(SILENCE),
            Purpose::Write => options.with_timeout(REQUEST),
            Purpose::WriteNew => {
                let new = (reqwest::header::IF_NONE_MATCH, HeaderValue::from_static("*"));
                options
                    .with_timeout(REQUEST)
                    .with_default_headers(HeaderMap::from_iter([new]))
            }
        };
        self.settings
            .known::<ClientConfigKey>()
            .fold(options, |options, (key, value)| options.with_config(key, value))
    }

    /// Words an error of writing.
    fn not_written(&self, source: object_store::Error) -> ObjectError {
        ObjectError::Write {
            url: self.url.to_string(),
            source: Box::new(source),
        }
    }

    /// A client for it.
    fn client(&self, purpose: Purpose) -> Result<AmazonS3, ObjectError> {
        // Neither of the two providers of rustls is built in but this one. Somebody else of the process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: 10,
            retry_timeout: RETRY,
        };
        self.settings
            .known()
            .fold(AmazonS3Builder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            })
            .with_url(self.url.as_str())
            .with_client_options(self.client_options(purpose))
            .with_retry(retry)
            .build()
            .map_err(|source| ObjectError::Configuration {
                url: self.url.to_string(),
                source: Box::new(source),
            })
    }
}

/// What a client is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Read,
    Write,
    /// Only where there is nothing of that name.
    WriteNew,
}

/// The bytes of an object, as they come.
pub(super) struct Download {
    url: Url,
    stream: futures_util::stream::BoxStream<'static, object_store::Result<bytes::Bytes>>,
}

impl Download {
    /// Asks for an object, within a tokio runtime.
    pub(super) async fn begin(url: &Url, settings: &Settings) -> Result<Self, ObjectError> {
        let object = Object::new(url, settings)?;
        let client = object.client(Purpose::Read)?;
        let read = |source| ObjectError::Read {
            url: url.to_string(),
            source: Box::new(source),
        };
        let got = client.get(&object.path).await.map_err(read)?;
        Ok(Self {
            url: url.clone(),
            stream: got.into_stream(),
        })
    }

    /// Some more; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<bytes::Bytes, ObjectError>> {
        let next = futures_util::StreamExt::next(&mut self.stream).await?;
        Some(next.map_err(|source| ObjectError::Read {
            url: self.url.to_string(),
            source: Box::new(source),
        }))
    }
}

#[cfg(test)]
mod tests {
    use object_store::aws::AmazonS3ConfigKey;

    use super::{ClientConfigKey, Settings, parse};

    #[test]
    fn settings_are_what_the_environment_says_and_keep_it_to_themselves() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let settings = Settings::from_iter([
            variable("AWS_ENDPOINT", "http://[::1]:3900"),
            variable("AWS_SECRET_ACCESS_KEY", "hush"),
            variable("AWS_ALLOW_HTTP", "true"),
            variable("AWS_PAGER", "less"),
            variable("HOME", "/root"),
        ]);
        let keys: Vec<_> = settings
            .known::<AmazonS3ConfigKey>()
            .map(|(key, _)| key)
            .collect();
        assert!(
            keys.contains(&AmazonS3ConfigKey::Endpoint) && keys.contains(&AmazonS3ConfigKey::SecretAccessKey)
        );
        assert_eq!(settings.known::<ClientConfigKey>().count(), 1);
        assert!(!format!("{settings:?}").contains("hush"));
    }

    #[test]
    fn objects_are_told_from_paths() {
        assert_eq!(parse("a/b").unwrap(), None);
        assert_eq!(parse("./s3://a/b").unwrap(), None);
        let url = parse("s3://bucket/a%20b/c.tar").unwrap().unwrap();
        assert_eq!(url.host_str(), Some("bucket"));
        assert!(parse("s3://bucket").is_err());
        assert!(parse("https://bucket/key").unwrap_err().contains("s3://"));
    }
}
