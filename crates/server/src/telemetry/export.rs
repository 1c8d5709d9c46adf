//! The queue of ended logins, and the task that brings them to the collector (OTLP 1.x over HTTP, protobuf).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use countersign::World;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::TraceCounts;
use super::span::{spans, text};
use super::trace::Closed;
use crate::config::TelemetryOptions;
use crate::world::SystemWorld;
use countersign_checkers::outgoing;

/// Logins that wait to be sent. One more is counted and dropped.
const QUEUE: usize = 2048;

/// Logins of one request.
const BATCH: usize = 256;

/// How long the first login of a request waits for more.
const GATHER: Duration = Duration::from_secs(1);

/// What a collector asks to be tried again is tried so often in all, and so long after.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// A failure that lasts is told so often.
const TELL_AGAIN: Duration = Duration::from_secs(300);

/// How long a stop waits for what is left.
const STOP: Duration = Duration::from_secs(3);

/// No reply of a collector is read beyond this, in bytes.
const REPLY_BYTES: usize = 64 * 1024;

/// A collector, and what waits for it.
#[derive(Debug)]
pub(super) struct Collector {
    queue: mpsc::Sender<Closed>,
    counts: Arc<Counts>,
    stop: Arc<Notify>,
    sending: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    lost: AtomicU64,
}

impl Collector {
    pub(super) fn start(options: &TelemetryOptions, world: &SystemWorld) -> Result<Self, String> {
        let client = outgoing::client(options.ca.as_deref(), options.timeout);
        let client = client.map_err(|why| format!("[telemetry] ca: {why}"))?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (counts, stop) = (Arc::<Counts>::default(), Arc::<Notify>::default());
        let sender = Sender {
            client,
            address: options.address.clone(),
            headers: options.headers.clone(),
            resource: resource(options, world),
            counts: Arc::clone(&counts),
            told: None,
            away: false,
            lost: 0,
        };
        tracing::info!(collector = options.address, "traces");
        let sending = tokio::spawn(sender.run(waiting, Arc::clone(&stop)));
        Ok(Self { queue, counts, stop, sending: Mutex::new(Some(sending)) })
    }

    pub(super) fn send(&self, closed: Closed) {
        if self.queue.try_send(closed).is_err() {
            self.counts.lost.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn counts(&self) -> TraceCounts {
        TraceCounts { sent: self.counts.sent.load(Relaxed), lost: self.counts.lost.load(Relaxed) }
    }

    pub(super) async fn stop(&self) {
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut sending) = sending else { return };
        self.stop.notify_one();
        if timeout(STOP, &mut sending).await.is_err() {
            sending.abort();
            tracing::warn!("the collector did not take the last traces in time; they are lost");
        }
    }
}

struct Sender {
    client: reqwest::Client,
    address: String,
    headers: axum::http::HeaderMap,
    resource: Resource,
    counts: Arc<Counts>,
    /// When a failure was last told, and whether it still holds as far as anybody was told.
    told: Option<Instant>,
    away: bool,
    /// How many logins' traces were lost when this was last looked at.
    lost: u64,
}

/// Why a request came to nothing.
enum Failure {
    /// It may be tried again (OTLP, section "Failures").
    Later(String),
    Final(String),
}

impl Sender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Closed>, stop: Arc<Notify>) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = stop.notified() => waiting.close(),
                count = waiting.recv_many(&mut batch, BATCH) => if count == 0 { return },
            }
            let until = Instant::now() + GATHER;
            while !waiting.is_closed() && (1..BATCH).contains(&batch.len()) {
                let room = BATCH - batch.len();
                tokio::select! {
                    () = stop.notified() => waiting.close(),
                    more = timeout_at(until, waiting.recv_many(&mut batch, room)) => {
                        if more.is_err() { break }
                    }
                }
            }
            if !batch.is_empty() {
                self.bring(&mut batch).await;
            }
        }
    }

    /// Brings a batch to the collector, or loses it.
    async fn bring(&mut self, batch: &mut Vec<Closed>) {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let body = self.request(batch).encode_to_vec();
        batch.clear();
        let mut tries = 1;
        let failed = loop {
            match self.post(body.clone()).await {
                Ok(()) => break None,
                Err(Failure::Later(_)) if tries < TRIES => tokio::time::sleep(PAUSE * tries).await,
                Err(Failure::Later(why) | Failure::Final(why)) => break Some(why),
            }
            tries += 1;
        };
        let counter = if failed.is_none() { &self.counts.sent } else { &self.counts.lost };
        counter.fetch_add(count, Relaxed);
        self.tell(failed.as_deref());
    }

    fn request(&self, batch: &[Closed]) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "countersign".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = batch.iter().flat_map(spans).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let resource_spans = ResourceSpans { resource, scope_spans, ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), Failure> {
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        let request = self.client.post(&self.address).headers(self.headers.clone());
        let request = request.header(header::CONTENT_TYPE, protobuf).body(body);
        let mut reply = request.send().await.map_err(|error| {
            let why = outgoing::chain(&error.without_url());
            Failure::Final(why)
        })?;
        let status = reply.status();
        let mut body = Vec::new();
        while let Ok(Some(piece)) = reply.chunk().await {
            body.extend_from_slice(&piece[..piece.len().min(REPLY_BYTES - body.len())]);
            if body.len() == REPLY_BYTES {
                break;
            }
        }
        match status {
            StatusCode::OK => match rejected(&body) {
                None => Ok(()),
                Some(why) => Err(Failure::Final(why)),
            },
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Failure::Later(format!("it says {status}"))),
            _ => Err(Failure::Final(format!("it says {status}"))),
        }
    }

    /// Says that traces are lost, now and then, and once that they are not any more.
    fn tell(&mut self, failed: Option<&str>) {
        let lost = self.counts.lost.load(Relaxed);
        let more = lost > std::mem::replace(&mut self.lost, lost);
        let address = &self.address;
        if failed.is_none() && !more {
            if std::mem::take(&mut self.away) {
                tracing::info!(lost, "traces reach {address} again");
            }
        } else if self.told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
            let why = failed.unwrap_or("it takes them more slowly than they come");
            tracing::warn!(lost, "traces of logins are lost: {address}: {why}");
            (self.told, self.away) = (Some(Instant::now()), true);
        }
    }
}

/// What the collector says that it did not take.
fn rejected(body: &[u8]) -> Option<String> {
    let reply = ExportTraceServiceResponse::decode(body).ok()?;
    let partial = reply.partial_success.filter(|partial| partial.rejected_spans > 0)?;
    let said: String =
        partial.error_message.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(format!("it rejects {} spans: {said}", partial.rejected_spans))
}

/// Who says all this.
fn resource(options: &TelemetryOptions, world: &SystemWorld) -> Resource {
    let mut instance = [0; 16];
    world.fill(&mut instance);
    let mut attributes = vec![
        text("service.name", options.service_name.as_str()),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", format!("{:032x}", u128::from_be_bytes(instance))),
    ];
    if let Ok(host) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        attributes.push(text("host.name", host.trim()));
    }
    Resource { attributes, ..Resource::default() }
}
