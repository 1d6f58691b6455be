//! `freezeframe serve`: /metrics for Prometheus, snapshots on request over a Unix socket, and a watch on the stores of snapshots.

pub mod ask;
mod drains;
mod overflow;
mod tracing;
mod trigger;
mod watch;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::ServeArgs;
use crate::metrics::Metrics;

pub use self::overflow::OnOverflow;
pub use self::wire::Answer;

/// Serves until it is told to stop.
///
/// # Errors
///
/// When it cannot listen.
pub async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new().context("cannot register the metrics")?);
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another address with --listen",
            args.listen
        )
    })?;
    let address = listener.local_addr()?;
    let (tracing, taken) =
        tracing::Tracing::start(metrics.registry()).context("cannot register the metrics")?;
    let watch = watch::StoreWatch::new(
        Duration::from_secs(args.watch_interval.into()),
        args.on_overflow.clone(),
        metrics.registry(),
        tracing.clone(),
        taken,
    )
    .context("cannot register the metrics")?;
    let drains = drains::Drains::default();
    let trigger = trigger::Trigger::bind(
        &args.socket,
        trigger::Shared {
            device: args.device.clone(),
            metrics: Arc::clone(&metrics),
            tracing: tracing.clone(),
            drains: drains.clone(),
        },
    )?;
    tell!(
        "metrics on http://{address}/metrics, snapshots on {}",
        args.socket.display()
    );
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        served = http(listener, address, metrics, drains) => served,
        served = trigger.serve() => served,
        () = tracing.poll() => Ok(()),
        () = watch.run() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn http(
    listener: TcpListener,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    drains: drains::Drains,
) -> anyhow::Result<()> {
    let draining = async move || match serde_json::to_string(&drains.all()) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    };
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/api/v1/draining", get(draining))
        .route("/healthz", get(async || "ok\n"))
        .route("/", get(async || "freezeframe: metrics are at /metrics, images that are being written at /api/v1/draining\n"))
        .with_state(metrics);
    axum::serve(listener, router)
        .await
        .with_context(|| format!("cannot serve on {address}"))
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
