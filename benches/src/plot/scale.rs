//! From values to places, and where the marks of an axis go.

/// Values 0 to `top`, or in equal ratios from `bottom` to `top`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    Linear { top: f64 },
    Logarithmic { bottom: f64, top: f64 },
}

impl Scale {
    /// From zero to a round value that leaves room for the largest of `values`.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let largest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        Self::Linear {
            top: if largest > 0.0 { largest } else { 1.0 },
        }
    }

    /// Just around `values`, of which those that have no logarithm are left out.
    pub(super) fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (mut bottom, mut top) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| value.is_finite() && *value > 0.0) {
            (bottom, top) = (bottom.min(value), top.max(value));
        }
        if top <= 0.0 {
            return Self::Logarithmic {
                bottom: 1.0,
                top: 10.0,
            };
        }
        let (bottom, top) = (bottom * 0.8, top * 1.15);
        Self::Logarithmic { bottom, top }
    }

    /// Where a value is, 0 to 1.
    pub(super) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { top } => value / top,
            Self::Logarithmic { bottom, top } => (value / bottom).ln() / (top / bottom).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    /// Whether a value is on the paper.
    pub(super) fn holds(self, value: f64) -> bool {
        match self {
            Self::Linear { top } => (0.0..=top).contains(&value),
            Self::Logarithmic { bottom, top } => (bottom..=top).contains(&value),
        }
    }

    /// Round values on the scale: about `count` of a linear one, 1, 2 and 5 of every power of a
    /// logarithmic one.
    pub(super) fn marks(self, count: usize) -> Vec<f64> {
        match self {
            Self::Linear { top } => {
                let step = round_step(top / count as f64);
                let marks = (0..=count * 3).map(|number| number as f64 * step);
                marks.take_while(|mark| *mark <= top * 1.0001).collect()
            }
            Self::Logarithmic { bottom, top } => {
                let powers = bottom.log10().floor() as i32..=top.log10().ceil() as i32;
                let marks =
                    powers.flat_map(|power| [1.0, 2.0, 5.0].map(|one| one * 10_f64.powi(power)));
                marks.filter(|mark| (bottom..=top).contains(mark)).collect()
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20 … that is no smaller.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|one| one * power);
    steps
        .into_iter()
        .find(|round| *round >= step * 0.9999)
        .unwrap_or(step)
}

/// A mark as people write it: `0`, `0.5`, `20`, `1500`.
pub(super) fn written(mark: f64) -> String {
    let rounded = (mark * 1000.0).round() / 1000.0;
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_within_the_scale() {
        let marks = |values: &[f64]| Scale::linear(values.iter().copied()).marks(4);
        assert_eq!(marks(&[19.4, 0.9]), [0.0, 5.0, 10.0, 15.0]);
        assert_eq!(marks(&[0.9]), [0.0, 0.5]);
        assert_eq!(marks(&[]), [0.0, 0.5, 1.0]);
        let latency = Scale::logarithmic([40.0, 1900.0].into_iter());
        assert_eq!(
            latency.marks(0),
            [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
        );
    }

    #[test]
    fn values_stay_on_the_paper() {
        let scale = Scale::logarithmic([f64::NAN, 10.0, 1000.0].into_iter());
        assert!((0.0..=1.0).contains(&scale.place(0.0)) && !scale.holds(0.0));
        assert!(scale.place(10.0) < scale.place(100.0) && scale.place(100.0) < scale.place(1000.0));
    }
}
