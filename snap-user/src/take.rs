//! `freezeframe take`: one snapshot, from the device to the archive.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use snap_common::phase::Phase;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::device::{Device, DeviceError, DiskCall, Snapshot, Target};
use crate::disk::ask::Wish;
use crate::disk::half::{Active, Half};
use crate::drain::{Drain, DrainError, drain};
use crate::failure::Failure;
use crate::how::{How, Room};
use crate::image::Image;
use crate::processes::Targets;
use crate::report::Report;
use crate::room;
use crate::serve::ask::ask;
use crate::stream::options::StreamOptions;
use crate::stream::progress::show::show;
use crate::stream::progress::{Progress, Snapshot as Far};
use crate::stream::sink::{Destination, Sink};
use crate::stream::{Cancel, StreamError};
use crate::words::causes;

/// What to snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The device.
    pub device: PathBuf,
    /// Which processes.
    pub targets: Targets,
    /// How.
    pub how: How,
    /// Which filesystems with them.
    pub disk: Wish,
}

/// What to snapshot, by whom, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// What.
    pub job: Job,
    /// Where the archive goes; `None`: nowhere, the snapshot is only timed.
    pub destination: Option<Destination>,
    /// How it gets there.
    pub drain: Drain,
    /// The daemon's socket; `None`: use the device ourselves.
    pub socket: Option<PathBuf>,
}

/// Takes a snapshot, by the daemon where one runs, and writes its archive. A signal stops it, and nothing is left then.
///
/// # Errors
///
/// See [`DeviceError`] and [`StreamError`]; what cannot be written is found before anything is frozen.
pub async fn take(request: &Request) -> anyhow::Result<Report> {
    // Before anything begins.
    let interrupts = Interrupts::catch()?;
    let cancel = Cancel::new();
    let far = Arc::new(Mutex::new(None));
    let work = by_whoever_can(request, &cancel, &far);
    tokio::pin!(work);
    let showing = show(|| {
        far.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(Seen::now)
    });
    tokio::select! {
        report = &mut work => report,
        never = showing => never,
        name = interrupts.wait() => {
            cancel.cancel();
            match work.await {
                Ok(report) => Ok(report), // it was over already
                Err(error) if keeps_the_image(&error) => Err(error),
                Err(_) => anyhow::bail!("{name}; the processes run on, and nothing is left of the image"),
            }
        }
    }
}

/// Is the image whole, and there, in spite of it?
pub(crate) fn keeps_the_image(error: &anyhow::Error) -> bool {
    let stream = match error.downcast_ref() {
        Some(DrainError::Stream(stream)) => Some(stream),
        _ => error.downcast_ref(),
    };
    stream.is_some_and(StreamError::keeps_the_image)
}

/// How far a drain is: one of ours, or what the daemon said last.
pub(crate) enum Seen {
    /// Ours.
    Here(Arc<Progress>),
    /// The daemon's.
    There(Far),
}

impl Seen {
    fn now(&self) -> Far {
        match self {
            Self::Here(progress) => progress.snapshot(),
            Self::There(far) => *far,
        }
    }
}

/// Where whoever shows it looks.
pub(crate) type Seeing = Arc<Mutex<Option<Seen>>>;

async fn by_whoever_can(request: &Request, cancel: &Cancel, far: &Seeing) -> anyhow::Result<Report> {
    let destination = request.destination.as_ref();
    if let Some(socket) = &request.socket
        && let Some(report) = ask(socket, &request.job, &request.drain, destination, cancel, far).await?
    {
        return Ok(report);
    }
    let sink = match destination {
        Some(destination) => Some(open(destination, &request.drain.stream, cancel).await?),
        None => None,
    };
    let draining = |_, progress: &Arc<Progress>, _: &Cancel| {
        *far.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen::Here(Arc::clone(progress)));
    };
    perform(&request.job, sink, &request.drain, cancel, draining).await
}

/// Claims the place, which may take until somebody reads it, and refuses what could not be read back from there.
pub(crate) async fn open(
    destination: &Destination,
    options: &StreamOptions,
    cancel: &Cancel,
) -> Result<Sink, StreamError> {
    let sink = tokio::select! {
        sink = Sink::open(destination) => sink?,
        () = cancel.cancelled() => return Err(StreamError::Cancelled),
    };
    sink.check(options)?;
    Ok(sink)
}

/// Takes a snapshot by the device and streams its archive into `sink`. Where that fails, nothing is left of it: what was written
/// to the store meanwhile is merged back. `draining` is told the snapshot's id when its image is being written, and what it returns
/// is kept as long.
///
/// # Errors
///
/// When the module refuses or fails, the sink does not take the archive, or it is cancelled.
pub async fn perform<G>(
    job: &Job,
    sink: Option<Sink>,
    how: &Drain,
    cancel: &Cancel,
    draining: impl FnOnce(u64, &Arc<Progress>, &Cancel) -> G,
) -> anyhow::Result<Report> {
    let output = match &sink {
        Some(sink) => sink.handle()?.map(File::from),
        None => None,
    };
    let (snapshot, half) = tokio::select! {
        taken = snapshot(job.clone(), output) => taken?,
        () = cancel.cancelled() => return Err(StreamError::Cancelled.into()),
    };
    let progress = Arc::new(Progress::new());
    let _guard = sink
        .as_ref()
        .map(|_| draining(snapshot.take().id, &progress, cancel));
    let report = stream(Arc::new(snapshot), sink, how, progress, cancel.clone()).await;
    let settle = move || match (report, half) {
        (Ok(mut report), Some(half)) => {
            report.disk = Some(half.finish()?);
            Ok(report)
        }
        (Err(error), Some(half)) => {
            if let Err(merge) = half.give_up() {
                tell!("{}", causes(&merge));
            }
            Err(error)
        }
        (report, None) => report,
    };
    tokio::task::spawn_blocking(settle).await?
}

async fn stream(
    snapshot: Arc<Snapshot>,
    sink: Option<Sink>,
    how: &Drain,
    progress: Arc<Progress>,
    cancel: Cancel,
) -> anyhow::Result<Report> {
    let processes =
        Image::read_processes(snapshot.as_ref(), snapshot.image_bytes()).map_err(DrainError::from)?;
    let mut report = Report::new(snapshot.take(), &processes);
    let Some(sink) = sink else { return Ok(report) };
    let (begin, clock) = (monotonic_ns(), Instant::now());
    let drained = drain(snapshot, how, sink, progress, cancel).await?;
    report.push_drain(&drained);
    report.push_phase(
        Phase::Drain,
        begin,
        u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX),
    );
    Ok(report)
}

/// `CLOCK_MONOTONIC`, as the module's stamps have it.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// What the ioctl takes, and the disk's half where there is one.
type Taken = (Snapshot, Option<Active>);

/// The ioctl and all that it needs, on a thread that may block.
async fn snapshot(job: Job, output: Option<File>) -> anyhow::Result<Taken> {
    // Goes with this future: who was interrupted meanwhile wants no further try.
    let wanted = Arc::new(());
    let still = Arc::downgrade(&wanted);
    let taken = tokio::task::spawn_blocking(move || {
        let device = Device::open(&job.device)?;
        let half = Half::prepare(&job.disk, &job.targets.pids()?, output.as_ref())?;
        let mut call = half.as_ref().map(Half::call).transpose()?.unwrap_or_default();
        let taken = take_targets(&device, &job, &mut call, || still.strong_count() != 0);
        settle(taken, half, &call)
    });
    let taken = taken.await??;
    drop(wanted);
    Ok(taken)
}

/// How often processes may go away between the look at them and the take.
const VANISHED: u32 = 20;

fn take_targets(
    device: &Device,
    job: &Job,
    call: &mut DiskCall,
    wanted: impl Fn() -> bool,
) -> anyhow::Result<Snapshot> {
    for left in (0..VANISHED).rev() {
        let pids = job.targets.pids()?;
        if job.how.room != Room::Ignored {
            room::check(&pids).map_err(DeviceError::from)?;
        }
        let targets: Vec<_> = pids.into_iter().map(|pid| Target { pid }).collect();
        let mut take = || device.take(&targets, &job.how, call);
        let taken = match job.how.room {
            Room::Reclaimed => reclaiming(take, &wanted),
            Room::Needed | Room::Ignored => take(),
        };
        match taken {
            Err(DeviceError::Take(Failure { gone: true, .. })) if left > 0 && job.targets.is_everyone() => {}
            taken => return Ok(taken?),
        }
    }
    anyhow::bail!("processes come and go too quickly; retry")
}

/// The disk follows the memory: its snapshot becomes active where that was taken, and is undone where not.
fn settle(taken: anyhow::Result<Snapshot>, half: Option<Half>, call: &DiskCall) -> anyhow::Result<Taken> {
    let Some(half) = half else {
        return Ok((taken?, None));
    };
    match taken {
        Ok(snapshot) => {
            let instant = Image::read_instant(&snapshot, snapshot.image_bytes()).map_err(DrainError::from)?;
            let active = half.activate(call, snapshot.take(), instant)?;
            Ok((snapshot, Some(active)))
        }
        Err(error) => {
            if let Err(merge) = half.give_up(call) {
                tell!("{}", causes(&merge));
            }
            Err(error)
        }
    }
}

/// How often memory is freed for one snapshot.
const RECLAIMS: u32 = 10;

/// Takes, and frees memory as long as there is too little and some can be freed. Once is seldom enough: page cache goes first, and
/// counted as available before.
fn reclaiming(
    mut take: impl FnMut() -> Result<Snapshot, DeviceError>,
    wanted: impl Fn() -> bool,
) -> Result<Snapshot, DeviceError> {
    for _ in 0..RECLAIMS {
        let taken = take();
        let Err(DeviceError::Take(Failure {
            short_of: Some(bytes),
            ..
        })) = taken
        else {
            return taken;
        };
        match room::reclaim(bytes) {
            _ if !wanted() => return taken,
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                tell!("cannot ask the kernel to free memory: {error}");
                return taken;
            }
        }
    }
    take()
}

/// The signals that a user stops us with, caught from the moment that this is made.
pub(crate) struct Interrupts([(Signal, &'static str); 3]);

impl Interrupts {
    /// Catches them.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        Ok(Self([
            (
                signal(SignalKind::interrupt()).context("cannot catch SIGINT")?,
                "interrupted",
            ),
            (
                signal(SignalKind::terminate()).context("cannot catch SIGTERM")?,
                "terminated",
            ),
            (
                signal(SignalKind::hangup()).context("cannot catch SIGHUP")?,
                "the terminal is gone",
            ),
        ]))
    }

    /// Waits for one of them.
    pub(crate) async fn wait(mut self) -> &'static str {
        let Self(
            [
                (interrupt, interrupted),
                (terminate, terminated),
                (hang_up, hung_up),
            ],
        ) = &mut self;
        tokio::select! {
            _ = interrupt.recv() => interrupted,
            _ = terminate.recv() => terminated,
            _ = hang_up.recv() => hung_up,
        }
    }
}
