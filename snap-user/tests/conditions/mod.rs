//! A store that is asked for conditions, which Garage does not know: as little of S3 as one upload takes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use freezeframe::stream::store::Settings;
use tokio::sync::Notify;

/// What the store says to a condition.
#[derive(Clone, Copy, Debug)]
pub enum Conditions {
    /// There is no such object.
    Met,
    /// There is.
    Failed,
    /// What is a condition?
    Unknown,
}

/// What was asked for.
#[derive(Clone, Default)]
pub struct Asked {
    completions: Arc<Mutex<Vec<String>>>,
    aborts: Arc<AtomicUsize>,
    parts: Arc<Mutex<Vec<usize>>>,
    creation: Arc<Notify>,
}

impl Asked {
    /// The conditions of each completion, empty where there was none.
    pub fn conditions(&self) -> Vec<String> {
        self.completions.lock().unwrap().clone()
    }

    /// How many uploads were aborted.
    pub fn aborts(&self) -> usize {
        self.aborts.load(Ordering::SeqCst)
    }

    /// The bytes of each part, smallest first: they may come in any order.
    pub fn parts(&self) -> Vec<usize> {
        let mut parts = self.parts.lock().unwrap().clone();
        parts.sort_unstable();
        parts
    }

    /// Waits until an upload is being made.
    pub async fn creation(&self) {
        self.creation.notified().await;
    }
}

/// How long the store takes to make an upload.
const CREATION: Duration = Duration::from_millis(200);

/// Serves until the test ends.
pub async fn serve(conditions: Conditions) -> (Settings, Asked) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Asked::default();
    let router = Router::new()
        .route("/images/image", any(answer))
        .with_state((conditions, asked.clone()));
    tokio::spawn(async { axum::serve(listener, router).await });
    let settings = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (settings.into_iter().collect(), asked)
}

async fn answer(
    State((conditions, asked)): State<(Conditions, Asked)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    match (
        method.as_str(),
        uri.query().is_some_and(|query| query.contains("uploadId=")),
    ) {
        ("HEAD", _) => StatusCode::NOT_FOUND.into_response(),
        ("PUT", true) => {
            let part = to_bytes(body, usize::MAX).await.unwrap();
            asked.parts.lock().unwrap().push(part.len());
            [("etag", "\"part\"")].into_response()
        }
        ("DELETE", true) => {
            asked.aborts.fetch_add(1, Ordering::SeqCst);
            StatusCode::NO_CONTENT.into_response()
        }
        ("POST", false) => {
            asked.creation.notify_one();
            tokio::time::sleep(CREATION).await;
            "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
                .into_response()
        }
        ("POST", true) => {
            let condition = headers.get("if-none-match").map(|value| value.to_str().unwrap());
            asked
                .completions
                .lock()
                .unwrap()
                .push(condition.unwrap_or_default().to_owned());
            complete(condition.and(Some(conditions)).unwrap_or(Conditions::Met))
        }
        other => panic!("{other:?}"),
    }
}

fn complete(conditions: Conditions) -> Response {
    let error = |status, code: &str| (status, format!("<Error><Code>{code}</Code></Error>")).into_response();
    match conditions {
        Conditions::Met => {
            "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>"
                .into_response()
        }
        Conditions::Failed => error(StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
        Conditions::Unknown => error(StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
    }
}
