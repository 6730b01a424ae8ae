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

/// The median of the ratios of values taken in the same repeat, seconds apart.
pub fn paired_ratio(values: &[(u32, f64)], reference: &[(u32, f64)]) -> Option<f64> {
    let of = |repeat: u32| {
        reference
            .iter()
            .find(|(other, _)| *other == repeat)
            .map(|(_, value)| *value)
    };
    let ratios: Vec<_> = values
        .iter()
        .filter_map(|(repeat, value)| Some(value / of(*repeat)?))
        .collect();
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
        let (values, reference) = ([(0, 10.0), (1, 40.0)], [(1, 20.0), (0, 5.0), (2, 1.0)]);
        assert_eq!(paired_ratio(&values, &reference), Some(2.0));
        assert_eq!(paired_ratio(&values, &[(7, 1.0)]), None);
    }

    #[test]
    fn the_range_spans_all_values() {
        assert_eq!(range(&[2.0, 1.0, 3.0]), Some((1.0, 3.0)));
        assert_eq!(range(&[]), None);
    }
}
