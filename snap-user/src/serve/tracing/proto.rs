//! From the kernel's counts to Prometheus' own types.

use prometheus::core::Desc;
use prometheus::proto::{
    Bucket, Counter, Histogram as ProtoHistogram, LabelPair, Metric, MetricFamily, MetricType,
};
use snap_common::hist::{self, Histogram};

/// One metric with all its series.
pub(super) fn family(desc: &Desc, kind: MetricType, series: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(desc.fq_name.clone());
    family.set_help(desc.help.clone());
    family.set_field_type(kind);
    family.set_metric(series);
    family
}

/// One series of a counter.
pub(super) fn counter(value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(value));
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

/// One series of a histogram.
pub(super) fn histogram(histogram: &Histogram) -> Metric {
    let mut metric = Metric::default();
    metric.set_histogram(proto(histogram));
    metric
}

/// The same series, of one device.
pub(super) fn of_device(mut metric: Metric, device: &str) -> Metric {
    let mut label = LabelPair::default();
    label.set_name("device".to_owned());
    label.set_value(device.to_owned());
    metric.set_label(vec![label]);
    metric
}

/// The kernel's buckets as cumulative ones, in seconds; those below 1 µs and above 17 s are summed up.
fn proto(histogram: &Histogram) -> ProtoHistogram {
    let mut cumulative = 0;
    let mut buckets = Vec::new();
    for (number, count) in histogram.buckets.iter().enumerate() {
        cumulative += count;
        if (10..hist::BUCKETS - 1).contains(&number) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(float(hist::bound_ns(number)) / 1e9);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
    }
    let mut proto = ProtoHistogram::default();
    proto.set_sample_count(cumulative);
    proto.set_sample_sum(float(histogram.sum_ns) / 1e9);
    proto.set_bucket(buckets);
    proto
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use prometheus::proto::Bucket;
    use snap_common::hist::{Histogram, bucket};

    use super::proto;

    #[test]
    fn no_count_is_lost_on_the_way_to_prometheus() {
        let mut histogram = Histogram::EMPTY;
        for value in [1, 500, 1024, 1025, 40_000, 3_000_000, u64::MAX / 2] {
            histogram.buckets[bucket(value)] += 1;
        }
        histogram.sum_ns = 2_000_000_000;
        let proto = proto(&histogram);
        assert_eq!(proto.get_sample_count(), 7);
        assert!((proto.get_sample_sum() - 2.0).abs() < 1e-9);
        let buckets = proto.get_bucket();
        assert!((buckets[0].upper_bound() - 1.024e-6).abs() < 1e-12);
        assert_eq!(buckets[0].cumulative_count(), 3);
        assert_eq!(buckets[1].cumulative_count(), 4);
        assert_eq!(buckets.last().unwrap().cumulative_count(), 6);
        assert!(buckets.is_sorted_by_key(Bucket::cumulative_count));
    }
}
