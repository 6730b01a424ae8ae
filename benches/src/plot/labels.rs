//! Keeps labels beside each other from overlapping.

/// Moves places apart until neighbours are at least `gap` from each other and all lie between `top`
/// and `bottom`, as little as that takes. The answer is in the order of `wanted`.
pub(super) fn spread(wanted: &[f64], gap: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut order: Vec<_> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    let mut groups: Vec<Group> = Vec::new();
    for index in order {
        let mut group = Group {
            members: vec![index],
            middle: wanted[index],
        };
        group.keep_within(gap, top, bottom);
        while let Some(above) = groups.pop_if(|above| above.end(gap) + gap > group.start(gap)) {
            group = above.joined(group, wanted);
            group.keep_within(gap, top, bottom);
        }
        groups.push(group);
    }
    let mut places = vec![0.0; wanted.len()];
    for group in &groups {
        for (number, member) in group.members.iter().enumerate() {
            places[*member] = group.start(gap) + number as f64 * gap;
        }
    }
    places
}

/// Labels that touch, around the middle of where they want to be.
struct Group {
    members: Vec<usize>,
    middle: f64,
}

impl Group {
    fn half(&self, gap: f64) -> f64 {
        (self.members.len() - 1) as f64 * gap / 2.0
    }

    fn start(&self, gap: f64) -> f64 {
        self.middle - self.half(gap)
    }

    fn end(&self, gap: f64) -> f64 {
        self.middle + self.half(gap)
    }

    fn joined(mut self, below: Self, wanted: &[f64]) -> Self {
        self.members.extend(below.members);
        let sum: f64 = self.members.iter().map(|member| wanted[*member]).sum();
        self.middle = sum / self.members.len() as f64;
        self
    }

    fn keep_within(&mut self, gap: f64, top: f64, bottom: f64) {
        let half = self.half(gap);
        self.middle = self.middle.min(bottom - half).max(top + half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_have_room_stay_where_they_are() {
        assert_eq!(
            spread(&[90.0, 10.0, 50.0], 15.0, (0.0, 100.0)),
            [90.0, 10.0, 50.0]
        );
        assert!(spread(&[], 15.0, (0.0, 100.0)).is_empty());
    }

    #[test]
    fn labels_never_come_nearer_than_the_gap_nor_leave_the_paper() {
        for wanted in [
            [50.0, 51.0, 52.0, 53.0],
            [0.0, 1.0, 2.0, 99.0],
            [98.0, 99.0, 99.5, 100.0],
        ] {
            let mut places = spread(&wanted, 15.0, (0.0, 100.0));
            places.sort_by(f64::total_cmp);
            assert!(
                places
                    .windows(2)
                    .all(|pair| pair[1] - pair[0] >= 15.0 - 1e-9),
                "{places:?}"
            );
            assert!(places[0] >= 0.0 && places[3] <= 100.0, "{places:?}");
        }
    }
}
