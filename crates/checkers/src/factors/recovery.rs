//! Recovery codes: for the day on which the telephone is gone.

use countersign::Secret;
use countersign_store::{CredentialType, NewCredential};

use super::{FactorError, Factors, limits, random};

impl Factors {
    /// Makes a set of recovery codes in the place of any older one: each works once, in the place of a
    /// one-time code. 80 random bits each, shown here and nowhere again.
    ///
    /// # Errors
    ///
    /// [`FactorError::Store`]: there is no such user; the old codes stay.
    pub async fn new_recovery_codes(&self, user: &str) -> Result<Vec<Secret>, FactorError> {
        let codes: Vec<_> =
            (0..limits::RECOVERY_CODES).map(|_| random::text(&*self.world, 4, 4)).collect();
        let stored = codes.iter().filter_map(random::typed);
        let stored = stored
            .map(|plain| NewCredential::new(CredentialType::Recovery, random::fingerprint(&plain)));
        let (kind, new) = (CredentialType::Recovery, stored.collect::<Vec<_>>());
        self.store.set_credentials(user, &kind, &new, self.world.now().unix).await?;
        Ok(codes)
    }
}
