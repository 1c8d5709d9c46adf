//! A key that was only offered, where a proven one is wanted.

use countersign::{Fault, KeyStore, OfferedKey, Scene, Verdict};

async fn check(store: &impl KeyStore, key: OfferedKey, scene: &Scene<'_>) -> Result<Verdict, Fault> {
    store.check_key(&key, scene).await
}

fn main() {}
