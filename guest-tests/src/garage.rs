//! A real S3 server for one test: Garage, with everything it has in a folder that goes with it. It is the program that
//! `FREEZEFRAME_GARAGE` names, or `garage`.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// The bucket that is there from the start.
pub const BUCKET: &str = "images";
const KEY: &str = "GK0123456789abcdef01234567";
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A server that runs, or can be started once more.
pub struct Garage {
    folder: TempDir,
    port: u16,
    server: Option<Child>,
}

impl Garage {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [port, rpc] = free_ports();
        let here = folder.path().display();
        let config = format!(
            "metadata_dir = \"{here}/meta\"\ndata_dir = \"{here}/data\"\ndb_engine = \"sqlite\"\nreplication_factor = 1\n\
             rpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\nrpc_secret = \"{SECRET}\"\n\
             [s3_api]\ns3_region = \"garage\"\napi_bind_addr = \"127.0.0.1:{port}\"\n"
        );
        std::fs::write(folder.path().join("garage.toml"), config).unwrap();
        let mut garage = Self {
            folder,
            port,
            server: None,
        };
        garage.restart();
        garage
    }

    fn command(&self) -> Command {
        let program = std::env::var_os("FREEZEFRAME_GARAGE").unwrap_or_else(|| "garage".into());
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.path().join("garage.toml"));
        command
    }

    /// Starts it again, with what it had.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub fn restart(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let server = self
            .command()
            .args(["server", "--single-node", "--default-bucket"])
            .env("GARAGE_DEFAULT_ACCESS_KEY", KEY)
            .env("GARAGE_DEFAULT_SECRET_KEY", SECRET)
            .env("GARAGE_DEFAULT_BUCKET", BUCKET)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start garage ({error}): name it with FREEZEFRAME_GARAGE, or put it on the PATH"
                )
            });
        let server = self.server.insert(server);
        // It listens when the bucket is there.
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = server.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
                panic!("garage ended: {status}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        while !String::from_utf8_lossy(&self.bucket_info()).contains(KEY) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it without a word.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// What a user has in the environment.
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [
            ("AWS_ENDPOINT", endpoint),
            ("AWS_REGION", "garage".to_owned()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
        ]
        .into_iter()
    }

    fn bucket_info(&self) -> Vec<u8> {
        let query = format!("{{\"globalAlias\":\"{BUCKET}\"}}");
        let answer = self
            .command()
            .args(["json-api", "GetBucketInfo", &query])
            .output();
        answer.unwrap().stdout
    }

    /// How many objects there are, and how many uploads that are neither completed nor aborted.
    ///
    /// # Panics
    ///
    /// When it does not say.
    #[must_use]
    pub fn objects_and_uploads(&self) -> (u64, u64) {
        let info: serde_json::Value = serde_json::from_slice(&self.bucket_info()).unwrap();
        let count = |name: &str| info[name].as_u64().unwrap();
        (count("objects"), count("unfinishedMultipartUploads"))
    }
}

impl Drop for Garage {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_ports() -> [u16; 2] {
    [(); 2]
        .map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .map(|listener| listener.local_addr().unwrap().port())
}
