//! A store that is asked for conditions, which Garage does not know: as little of S3 as one upload takes.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use freezeframe::stream::store::Settings;

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

/// What completions were asked for.
#[derive(Clone, Default)]
pub struct Completions(Arc<Mutex<Vec<String>>>);

impl Completions {
    /// The conditions of each, empty where there was none.
    pub fn conditions(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Serves until the test ends.
pub async fn serve(conditions: Conditions) -> (Settings, Completions) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let completions = Completions::default();
    let router = Router::new()
        .route("/images/image", any(answer))
        .with_state((conditions, completions.clone()));
    tokio::spawn(async { axum::serve(listener, router).await });
    let settings = [
        ("AWS_ENDPOINT", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_ALLOW_HTTP", "true"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (settings.into_iter().collect(), completions)
}

async fn answer(
    State((conditions, completions)): State<(Conditions, Completions)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    match (
        method.as_str(),
        uri.query().is_some_and(|query| query.contains("uploadId=")),
    ) {
        ("HEAD", _) => StatusCode::NOT_FOUND.into_response(),
        ("PUT", true) => [("etag", "\"part\"")].into_response(),
        ("DELETE", true) => StatusCode::NO_CONTENT.into_response(),
        ("POST", false) => {
            "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
                .into_response()
        }
        ("POST", true) => {
            let condition = headers.get("if-none-match").map(|value| value.to_str().unwrap());
            completions
                .0
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
