//! What a slow hash costs: by the C libraries, by Rust, and through the pool. Every figure is the middle of
//! several rounds in which the candidates take turns, so that whatever else the machine does meets all.
//!
//! `cargo bench -p countersign-checkers --bench hash [-- ROUNDS]`

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use countersign::Secret;
use countersign_checkers::hash::{Accept, Hash, Recipe};
use countersign_checkers::pool::{HashPool, PoolOptions, Remember};
use countersign_hashlibs as libs;

const SALT: [u8; 16] = *b"sixteen bytes!!!";

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(7);
    println!("libraries: {}", libs::found());
    for (memory_kib, passes) in [(19_456, 2), (65_536, 3)] {
        argon2id(rounds, memory_kib, passes);
    }
    bcrypt(rounds);
    pool(rounds);
    remembered(rounds);
}

fn argon2id(rounds: usize, memory_kib: u32, passes: u32) {
    let params = Params::new(memory_kib, passes, 1, None).unwrap();
    let mut kept = vec![Block::new(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut tag = [0; 32];
    let mut by_rust = || {
        argon2
            .hash_password_into_with_memory(black_box(b"secret"), &SALT, &mut tag, &mut kept)
            .unwrap();
    };
    let mut other = [0; 32];
    let mut by_sodium = || {
        let parameters = libs::Argon2id { memory_kib, passes, salt: &SALT };
        assert!(libs::argon2id(parameters, black_box(b"secret"), &mut other));
    };
    let name = format!("argon2id m={memory_kib},t={passes}");
    if !libs::has_argon2id() {
        return print(&name, &[("RustCrypto", times(rounds, &mut [&mut by_rust]).remove(0))]);
    }
    let mut all = times(rounds, &mut [&mut by_sodium, &mut by_rust]).into_iter();
    print(
        &name,
        &[("libsodium", all.next().unwrap()), ("RustCrypto, memory kept", all.next().unwrap())],
    );
}

fn bcrypt(rounds: usize) {
    let mut by_rust = || {
        black_box(bcrypt::bcrypt(10, SALT, black_box(b"secret\0")));
    };
    let mut by_crypt =
        || assert!(libs::crypt(black_box(b"secret"), "$2b$10$abcdefghijklmnopqrstuu").is_some());
    if !libs::has_crypt() {
        return print("bcrypt 10", &[("Rust", times(rounds, &mut [&mut by_rust]).remove(0))]);
    }
    let mut all = times(rounds, &mut [&mut by_crypt, &mut by_rust]).into_iter();
    print("bcrypt 10", &[("libxcrypt", all.next().unwrap()), ("Rust", all.next().unwrap())]);
}

/// CPU time of each candidate in each round.
fn times(rounds: usize, candidates: &mut [&mut dyn FnMut()]) -> Vec<Vec<f64>> {
    let mut all = vec![Vec::new(); candidates.len()];
    for round in 0..=rounds {
        for (candidate, times) in candidates.iter_mut().zip(&mut all) {
            let start = cpu();
            for _ in 0..5 {
                candidate();
            }
            // The first round warms up.
            if round > 0 {
                times.push((cpu() - start).as_secs_f64() * 1000.0 / 5.0);
            }
        }
    }
    all
}

fn print(what: &str, all: &[(&str, Vec<f64>)]) {
    let middle = |of: &[f64]| {
        let mut of = of.to_vec();
        of.sort_by(f64::total_cmp);
        (of[0], of[of.len() / 2], of[of.len() - 1])
    };
    for (name, times) in all {
        let (low, mid, high) = middle(times);
        let ratios: Vec<f64> =
            times.iter().zip(&all[0].1).map(|(own, first)| own / first).collect();
        let (least, ratio, most) = middle(&ratios);
        println!(
            "{what}: {name}: {mid:.2} ms ({low:.2} to {high:.2}), {ratio:.2} times the first \
             ({least:.2} to {most:.2})"
        );
    }
}

/// This thread's.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Hashes through the pool beside as many bare loops: what the queue and the threads cost.
fn pool(rounds: usize) {
    let recipe = Recipe::default();
    let hash = Hash::create(&recipe, &Secret::from("secret"), SALT).unwrap();
    let options = PoolOptions { remember: Remember::NOTHING, ..PoolOptions::default() };
    let threads = options.threads.get();
    let jobs = 48 * threads;
    let pool = HashPool::start(&options).expect("threads");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (mut bare, mut pooled) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let start = Instant::now();
        let left = Arc::new(AtomicUsize::new(jobs));
        thread::scope(|scope| {
            for _ in 0..threads {
                let (left, hash) = (Arc::clone(&left), &hash);
                scope.spawn(move || {
                    let mut memory = countersign_checkers::hash::Memory::default();
                    let (own, mut n) = (Secret::from("wrong"), 0);
                    while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                        assert_eq!(hash.verify_in(&own, &mut memory), Ok(false));
                        n += 1;
                    }
                    n
                });
            }
        });
        let one = start.elapsed();
        let start = Instant::now();
        // Each its own, so that none boards another's.
        let all: Vec<_> = (0..jobs)
            .map(|job| {
                let password = Secret::from(format!("wrong {round} {job}"));
                pool.verify(&hash, &password, &format!("u{job}"))
            })
            .collect();
        runtime.block_on(async {
            for one in all {
                assert!(!one.await.expect("room for all").is_right());
            }
        });
        if round > 0 {
            bare.push(one.as_secs_f64() * 1000.0 / jobs as f64);
            pooled.push(start.elapsed().as_secs_f64() * 1000.0 / jobs as f64);
        }
    }
    print(
        &format!("argon2id on {threads} cores, wall time for each"),
        &[("bare loops", bare), ("the pool", pooled)],
    );
}

/// A login that is remembered, beside a cheap hash.
fn remembered(rounds: usize) {
    let pool = HashPool::start(&PoolOptions::default()).expect("threads");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let accept = Accept { allow_plain: true, ..Accept::default() };
    let slow = Hash::create(&Recipe::default(), &Secret::from("secret"), SALT).unwrap();
    let stored = slow.expose_text();
    let plain = Hash::parse("{PLAIN}secret", &accept).unwrap();
    let secret = Secret::from("secret");
    const MANY: usize = 20_000;
    let mut cheap = || {
        for _ in 0..MANY {
            assert!(runtime.block_on(pool.verify(&plain, &secret, "ada")).unwrap().is_right());
        }
    };
    let mut by_text = || {
        for _ in 0..MANY {
            let found = pool.verify_text("ada", &stored, &accept, &secret);
            assert!(runtime.block_on(found).unwrap().is_right());
        }
    };
    let mut by_hash = || {
        for _ in 0..MANY {
            assert!(runtime.block_on(pool.verify(&slow, &secret, "ada")).unwrap().is_right());
        }
    };
    let mut all = times(rounds, &mut [&mut cheap, &mut by_text, &mut by_hash]).into_iter();
    let mut next = |name| (name, all.next().unwrap());
    print(
        "20,000 logins",
        &[next("{PLAIN}"), next("remembered, by its text"), next("remembered, by a read hash")],
    );
}
