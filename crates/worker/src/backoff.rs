//! When something that ended, or would not begin, is tried again.

use std::time::{Duration, Instant};

/// How long nothing is tried after the first failure; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// And no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// What ran for as long is started anew at once.
const STEADY: Duration = Duration::from_secs(10);

/// The pauses between starts of something that is to run for ever.
#[derive(Debug, Default)]
pub struct Backoff {
    /// In a row.
    failures: u32,
    not_before: Option<Instant>,
    last: String,
}

impl Backoff {
    /// It could not be started.
    pub fn failed(&mut self, why: &str) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + pause);
        why.clone_into(&mut self.last);
    }

    /// It has ended, after it ran for so long.
    pub fn ended(&mut self, ran: Duration) {
        match ran >= STEADY {
            true => self.failures = 0,
            false => self.failed("it ended"),
        }
    }

    /// For how long it is not to be started, and why. `None`: it may be, now.
    pub fn pause(&self) -> Option<(Duration, &str)> {
        let pause = self.not_before?.checked_duration_since(Instant::now())?;
        (!pause.is_zero()).then_some((pause, &self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_pause_up_to_a_limit() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(), None);
        for (failure, longest_ms) in [100, 200, 400, 800].into_iter().enumerate() {
            backoff.failed(&failure.to_string());
            let (pause, why) = backoff.pause().unwrap();
            assert!(pause > Duration::from_millis(longest_ms / 2), "{pause:?}");
            assert!(pause <= Duration::from_millis(longest_ms), "{pause:?}");
            assert_eq!(why, failure.to_string());
        }
        for _ in 0..100 {
            backoff.ended(Duration::ZERO);
        }
        let (pause, why) = backoff.pause().unwrap();
        assert!(pause <= LONGEST_PAUSE && pause > LONGEST_PAUSE / 2 && why == "it ended");
        // It ran well: the next failure is a first one.
        backoff.ended(STEADY);
        backoff.failed("again");
        assert!(backoff.pause().unwrap().0 <= FIRST_PAUSE);
    }
}
