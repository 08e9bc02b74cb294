//! Ctrl-C and requests to end: the first lets a command end in order, the second ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Listens from the moment it is made, so that no signal between two waits is lost.
#[derive(Clone)]
pub struct Interrupt(watch::Receiver<Option<u8>>);

impl Interrupt {
    /// Starts to listen; needs a running runtime. A process that cannot listen is ended by the system as usual.
    pub fn listen() -> Self {
        let (tx, rx) = watch::channel(None);
        let streams = [(SignalKind::interrupt(), 130), (SignalKind::terminate(), 143), (SignalKind::hangup(), 129)];
        for (kind, code) in streams {
            if let Ok(stream) = signal(kind) {
                tokio::spawn(forward(stream, code, tx.clone()));
            }
        }
        // Keeps the channel open where nothing can be listened to.
        tokio::spawn(async move { tx.closed().await });
        Self(rx)
    }

    /// Waits for a signal and returns the exit code that stands for it.
    pub async fn wait(&mut self) -> u8 {
        match self.0.wait_for(Option::is_some).await {
            Ok(code) => code.unwrap_or(130),
            Err(_) => 130,
        }
    }
}

async fn forward(mut stream: Signal, code: u8, to: watch::Sender<Option<u8>>) {
    while stream.recv().await.is_some() {
        let again = to.send_replace(Some(code)).is_some();
        if again {
            // What is acknowledged is on disk; whoever asks twice does not want to wait.
            std::process::exit(i32::from(code));
        }
    }
}
