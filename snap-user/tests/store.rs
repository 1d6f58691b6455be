//! Images in an object store: a real server, Garage, on this machine.

mod conditions;

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freezeframe::stream::compress::Compression;
use freezeframe::stream::encrypt::Encryption;
use freezeframe::stream::open::{Keys, Location, open_with};
use freezeframe::stream::options::StreamOptions;
use freezeframe::stream::progress::{Progress, Stage};
use freezeframe::stream::sink::{Destination, Sink};
use freezeframe::stream::store::{ObjectError, Settings};
use freezeframe::stream::{Cancel, StreamError, Writer, pipeline};
use guest_tests::garage::{BUCKET, Garage};

use self::conditions::Conditions;

const OPTIONS: StreamOptions = StreamOptions {
    compression: Compression::None,
    encryption: Encryption::None,
    rate: None,
};

/// What a user has in the environment.
fn settings(garage: &Garage) -> Settings {
    let variables = garage.environment();
    variables.map(|(name, value)| (name.to_owned(), value)).collect()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes / 8).flatten().collect()
}

async fn sink(settings: &Settings, key: &str) -> Result<Sink, StreamError> {
    let destination: Destination = format!("s3://{BUCKET}/{key}").parse().unwrap();
    Sink::open_with(&destination, settings).await
}

fn read(settings: &Settings, key: &str) -> Result<Vec<u8>, String> {
    let location: Location = format!("s3://{BUCKET}/{key}").parse().unwrap();
    let mut reader = open_with(&location, &Keys::default(), settings).map_err(|error| error.to_string())?;
    let mut back = Vec::new();
    reader.read_to_end(&mut back).map_err(|error| error.to_string())?;
    Ok(back)
}

fn write(mut writer: Writer, bytes: &Bytes) -> bool {
    writer.send(bytes.clone()).is_ok() && writer.finish().is_ok()
}

async fn store(sink: Sink, options: &StreamOptions, bytes: &Bytes) -> Result<u64, StreamError> {
    let (writer, pipeline) = pipeline(options, sink, Arc::default(), Cancel::new());
    let bytes = bytes.clone();
    let writing = tokio::task::spawn_blocking(move || write(writer, &bytes));
    let written = pipeline.await;
    writing.await.unwrap();
    written.map(|written| written.bytes)
}

#[tokio::test]
async fn what_is_stored_is_read_back() {
    let garage = Garage::start();
    let settings = settings(&garage);
    let bytes = Bytes::from(noise(27 << 20));
    let compressed = StreamOptions {
        compression: Compression::Lz4,
        ..OPTIONS
    };
    for (key, options, bytes) in [
        ("many parts", &OPTIONS, &bytes),
        ("in/a/folder.tar.lz4", &compressed, &bytes),
        ("small", &OPTIONS, &bytes.slice(..100)),
    ] {
        let key = key.replace(' ', "%20");
        let sink = sink(&settings, &key).await.unwrap();
        let stored = store(sink, options, bytes).await.unwrap();
        assert!(stored >= bytes.len() as u64, "{key}");
        // Also from within a runtime.
        assert!(read(&settings, &key).unwrap() == *bytes, "{key}");
    }
    assert_eq!(garage.objects_and_uploads(), (3, 0));
}

#[tokio::test]
async fn an_object_is_never_replaced() {
    let garage = Garage::start();
    let settings = settings(&garage);
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let both = (
        sink(&settings, "image").await.unwrap(),
        sink(&settings, "image").await.unwrap(),
    );
    store(both.0, &OPTIONS, &first).await.unwrap();

    let refused = sink(&settings, "image").await.unwrap_err();
    assert!(
        matches!(refused, StreamError::Object(ObjectError::Exists(_))),
        "{refused}"
    );
    assert!(
        refused
            .to_string()
            .starts_with("cannot write s3://images/image: it exists already")
    );

    // Who came first wins, also where both had looked before.
    let late = store(both.1, &OPTIONS, &second).await.unwrap_err();
    assert!(
        matches!(late, StreamError::Object(ObjectError::Exists(_))),
        "{late}"
    );
    assert_eq!(read(&settings, "image").unwrap(), first);
    assert_eq!(garage.objects_and_uploads(), (1, 0));
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let garage = Garage::start();
    let settings = settings(&garage);
    // Nobody ever wrote to it.
    drop(sink(&settings, "image").await.unwrap());
    assert_eq!(garage.objects_and_uploads(), (0, 0));

    // Cancelled, with parts there and parts on their way.
    let (cancel, progress) = (Cancel::new(), Arc::new(Progress::new()));
    let given_up = sink(&settings, "image").await.unwrap();
    let (mut writer, writing) = pipeline(&OPTIONS, given_up, Arc::clone(&progress), cancel.clone());
    let bytes = Bytes::from(noise(1 << 20));
    let writer = tokio::task::spawn_blocking(move || while writer.send(bytes.clone()).is_ok() {});
    while progress.bytes(Stage::Write) < 25 << 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cancel.cancel();
    assert!(matches!(writing.await, Err(StreamError::Cancelled)));
    writer.await.unwrap();
    assert_eq!(garage.objects_and_uploads(), (0, 0));

    // The writer went away.
    let unfinished = sink(&settings, "image").await.unwrap();
    let (mut writer, writing) = pipeline(&OPTIONS, unfinished, Arc::default(), Cancel::new());
    let bytes = Bytes::from(noise(12 << 20));
    tokio::task::spawn_blocking(move || writer.send(bytes))
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(writing.await, Err(StreamError::Unfinished)));
    assert_eq!(garage.objects_and_uploads(), (0, 0));
}

/// Sends 64 MiB, and does something to the server when some of it is there.
async fn disturbed(garage: &mut Garage, disturb: impl FnOnce(&mut Garage)) -> Result<u64, StreamError> {
    let progress = Arc::new(Progress::new());
    let sink = sink(&settings(garage), "image").await.unwrap();
    let (mut writer, writing) = pipeline(&OPTIONS, sink, Arc::clone(&progress), Cancel::new());
    let bytes = Bytes::from(noise(1 << 20));
    let writer = tokio::task::spawn_blocking(move || {
        (0..64).all(|_| writer.send(bytes.clone()).is_ok()) && writer.finish().is_ok()
    });
    while progress.bytes(Stage::Write) < 20 << 20 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::task::block_in_place(|| disturb(garage));
    let written = writing.await;
    writer.await.unwrap();
    written.map(|written| written.bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_waited_for() {
    let mut garage = Garage::start();
    let disturb = |garage: &mut Garage| {
        garage.kill();
        garage.restart();
    };
    assert_eq!(disturbed(&mut garage, disturb).await.unwrap(), 64 << 20);
    assert_eq!(read(&settings(&garage), "image").unwrap().len(), 64 << 20);
    assert_eq!(garage.objects_and_uploads(), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_is_an_error_and_leaves_no_object() {
    let mut garage = Garage::start();
    let error = disturbed(&mut garage, Garage::kill).await.unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("cannot write s3://images/image: "), "{error}");
    garage.restart();
    // Nobody was there to be told to forget the parts.
    assert_eq!(garage.objects_and_uploads(), (0, 1));
    let error = read(&settings(&garage), "image").unwrap_err();
    assert!(error.starts_with("cannot read s3://images/image: "), "{error}");
}

#[tokio::test]
async fn a_stranger_is_refused_before_anything_happens() {
    let garage = Garage::start();
    let variables = garage.environment().map(|(name, value)| {
        (
            name,
            if name == "AWS_SECRET_ACCESS_KEY" {
                "wrong".into()
            } else {
                value
            },
        )
    });
    let stranger = variables.map(|(name, value)| (name.to_owned(), value)).collect();
    let error = sink(&stranger, "image").await.unwrap_err().to_string();
    assert!(error.starts_with("cannot write s3://images/image: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_while_the_store_makes_the_upload_is_aborted() {
    let (settings, asked) = conditions::serve(Conditions::Met).await;
    tokio::select! {
        sink = sink(&settings, "image") => panic!("{sink:?}"),
        () = asked.creation() => {}
    }
    assert_eq!(asked.aborts(), 1);
}

#[tokio::test]
async fn a_condition_holds_where_the_store_knows_it() {
    let bytes = Bytes::from_static(b"an image");
    let store = |conditions: Conditions| {
        let bytes = bytes.clone();
        async move {
            let (settings, asked) = conditions::serve(conditions).await;
            let sink = sink(&settings, "image").await.unwrap();
            (store(sink, &OPTIONS, &bytes).await, asked)
        }
    };
    let (stored, asked) = store(Conditions::Met).await;
    stored.unwrap();
    assert_eq!(asked.conditions(), ["*"]);

    let (stored, asked) = store(Conditions::Failed).await;
    let error = stored.unwrap_err();
    assert!(
        matches!(error, StreamError::Object(ObjectError::Exists(_))),
        "{error}"
    );
    assert_eq!(asked.conditions(), ["*"]);

    let (stored, asked) = store(Conditions::Unknown).await;
    stored.unwrap();
    assert_eq!(asked.conditions().last().map(String::as_str), Some(""));
}

#[tokio::test]
async fn parts_are_as_large_as_needed_where_the_size_is_known_before_the_first_byte() {
    let key = age::x25519::Identity::generate().to_public().to_string();
    let encrypted = StreamOptions {
        encryption: Encryption::Recipients(vec![key.parse().unwrap()]),
        ..OPTIONS
    };
    for options in [OPTIONS, encrypted] {
        let (settings, asked) = conditions::serve(Conditions::Met).await;
        let sink = sink(&settings, "image").await.unwrap();
        let progress = Arc::new(Progress::new());
        let (mut writer, pipeline) = pipeline(&options, sink, Arc::clone(&progress), Cancel::new());
        // The pipeline runs by now, and nobody knows yet how much will come.
        tokio::time::sleep(Duration::from_millis(50)).await;
        progress.set_total(140 << 30);
        let bytes = Bytes::from(noise(1 << 20));
        tokio::task::spawn_blocking(move || {
            (0..20).for_each(|_| writer.send(bytes.clone()).unwrap());
            writer.finish().unwrap();
        });
        pipeline.await.unwrap();
        let parts = asked.parts();
        assert!(parts.len() == 2 && parts[1] >= 16 << 20, "{parts:?}");
    }
}
