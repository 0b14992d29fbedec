use counterclock::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn basic() {
    let s = CounterStore::<String>::new(2);
    assert_eq!(s.increment("a"), 1);
    assert_eq!(s.increment("a"), 2);
    assert_eq!(s.increment("b"), 1);
    assert_eq!(s.len(), 2);
    assert_eq!(s.increment("c"), 1);
    assert_eq!(s.len(), 2);
    println!("{:?} {:?} {:?}", s.totals(), s.stats(), s.snapshot());
    s.clear();
    assert_eq!(s.len(), 0);
    println!("{:?} {:?} waiting {}", s.totals(), s.stats(), s.waiting());
    s.prune();
    s.prune();
    s.prune();
    assert_eq!(s.waiting(), 0);
}

#[test]
fn churn() {
    for cap in [1usize, 2, 7, 64, 2048] {
        for shards in [1, 16, 64] {
            let ended = Arc::new(AtomicU64::new(0));
            let e2 = ended.clone();
            let s: CounterStore<u64> = CounterStore::builder()
                .capacity(cap)
                .shards(shards)
                .on_removal(move |r| {
                    e2.fetch_add(r.count, Ordering::Relaxed);
                })
                .build()
                .unwrap();
            let stop = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|sc| {
                sc.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        assert!(s.len() <= cap);
                    }
                });
                let hs: Vec<_> = (0..4u64)
                    .map(|t| {
                        let s = &s;
                        sc.spawn(move || {
                            let mut x = t + 1;
                            for i in 0..100_000u64 {
                                x ^= x << 13;
                                x ^= x >> 7;
                                x ^= x << 17;
                                s.add(&(x % (cap as u64 * 4)), 1);
                                if i % 7 == 0 {
                                    s.remove(&(x % (cap as u64 * 2)));
                                }
                                if i % 10000 == 0 {
                                    let t = s.totals();
                                    assert_eq!(
                                        t.recorded,
                                        t.live + t.evicted + t.removed + t.rejected
                                    );
                                }
                            }
                        })
                    })
                    .collect();
                for h in hs {
                    h.join().unwrap();
                }
                stop.store(true, Ordering::Relaxed);
            });
            let t = s.totals();
            println!(
                "cap {cap} shards {shards} {t:?} {:?} waiting {}",
                s.stats(),
                s.waiting()
            );
            assert_eq!(t.recorded, 400_000);
            assert_eq!(ended.load(Ordering::Relaxed), t.evicted + t.removed);
        }
    }
}
