//! Medians and ratios: with few repeats on a busy machine nothing else can be trusted.

/// The middle of `values`, or between the two middle ones; nothing when there are none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| !value.is_nan())
        .collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    let even = sorted.len().is_multiple_of(2);
    Some(if even {
        f64::midpoint(sorted[middle - 1], upper)
    } else {
        upper
    })
}

/// The smallest and the largest value.
pub fn range(values: &[f64]) -> Option<(f64, f64)> {
    let low = values.iter().copied().min_by(f64::total_cmp)?;
    let high = values.iter().copied().max_by(f64::total_cmp)?;
    Some((low, high))
}

/// A number with when it was taken.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// In which repeat.
    pub repeat: u32,
    /// Its place among all numbers, in the order in which they were taken.
    pub place: usize,
    /// The number.
    pub value: f64,
}

/// The median of the ratios to the value of the same repeat that was taken next before or after.
pub fn paired_ratio(values: &[Sample], reference: &[Sample]) -> Option<f64> {
    let ratio = |of: &Sample| {
        let candidates = reference.iter().filter(|other| other.repeat == of.repeat);
        let nearest = candidates.min_by_key(|other| other.place.abs_diff(of.place))?;
        Some(of.value / nearest.value)
    };
    let ratios: Vec<_> = values.iter().filter_map(ratio).collect();
    median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wild_value_does_not_move_the_median_far() {
        assert_eq!(median(&[1.0, 1000.0, 2.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 3.0, 1000.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN]), None);
    }

    #[test]
    fn ratios_pair_values_of_the_same_repeat() {
        let values = samples(&[(0, 0, 10.0), (1, 1, 40.0)]);
        let reference = samples(&[(1, 3, 20.0), (0, 2, 5.0), (2, 4, 1.0)]);
        assert_eq!(paired_ratio(&values, &reference), Some(2.0));
        assert_eq!(paired_ratio(&values, &samples(&[(7, 9, 1.0)])), None);
    }

    #[test]
    fn of_several_references_the_nearest_counts() {
        let reference = samples(&[(0, 0, 1.0), (0, 4, 5.0), (0, 9, 2.0)]);
        assert_eq!(
            paired_ratio(&samples(&[(0, 5, 10.0)]), &reference),
            Some(2.0)
        );
        assert_eq!(
            paired_ratio(&samples(&[(0, 8, 10.0)]), &reference),
            Some(5.0)
        );
    }

    fn samples(of: &[(u32, usize, f64)]) -> Vec<Sample> {
        let sample = |&(repeat, place, value)| Sample {
            repeat,
            place,
            value,
        };
        of.iter().map(sample).collect()
    }

    #[test]
    fn the_range_spans_all_values() {
        assert_eq!(range(&[2.0, 1.0, 3.0]), Some((1.0, 3.0)));
        assert_eq!(range(&[]), None);
    }
}
