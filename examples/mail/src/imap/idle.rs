//! IDLE (RFC 2177): the client waits, and is told.

use countersign::Realm;

use super::commands::Done;
use super::{Connection, ImapMailbox, Over};
use crate::wire::Silence;

impl<R: Realm<ImapMailbox>> Connection<'_, R> {
    pub(super) async fn idle(&mut self) -> Result<Done, Over> {
        self.say("+ Waiting");
        // Something may have come before the realm was asked to say so.
        self.changed = self.selected.is_some();
        loop {
            if self.changed && self.selected.is_some() {
                self.tell_changes(true).await;
            }
            self.changed = false;
            // All is sent here: what hears a line may be dropped, what sends may not.
            self.wire.flush().await?;
            let heard = tokio::select! {
                biased;
                () = &mut self.end => {
                    self.hear_news();
                    return self.bye("[UNAVAILABLE] The server ends now").await;
                }
                notice = self.notices.next() => {
                    self.hear(&notice);
                    continue;
                }
                heard = self.wire.line(100, self.deadline) => heard,
            };
            return match heard {
                Ok(line) if line.eq_ignore_ascii_case(b"DONE") => Ok(Done::ok("Done")),
                Ok(_) | Err(Silence::TooLong) => Ok(Done::Bad("DONE ends IDLE")),
                Err(Silence::Left) => Err(Over),
                Err(Silence::TimedOut) => self.bye("You said nothing for too long").await,
            };
        }
    }
}
