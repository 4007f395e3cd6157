//! Which member of a group restarts next, when the members' template has changed.
//!
//! What must hold: it is pure; one member at a time, and none while another one does not answer, so that a group of three
//! or more never loses its quorum to it (two members can lose none); followers first, from the highest ordinal down as a
//! StatefulSet does; the leader last, after it has handed over to a member that runs the new template, so that there is
//! one hand-over for all restarts. A member that does not answer loses nothing by its restart and goes first. Kubernetes
//! itself rolls the only member of a store, so nothing calls it yet.

/// A member, as a roll looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rolled {
    /// Its ordinal.
    pub ordinal: u8,
    /// Whether it runs the newest template.
    pub is_updated: bool,
    /// Whether it answers.
    pub answers: bool,
    /// Whether it leads.
    pub leads: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollStep {
    /// Let this one lead.
    TransferLeadership(u8),
    /// Delete this one's pod.
    Restart(u8),
}

/// The next step of a roll; `None` when it is done, or somebody must be waited for.
#[must_use]
pub fn next_step(members: &[Rolled]) -> Option<RollStep> {
    let mut silent = members.iter().filter(|member| !member.answers);
    if let Some(member) = silent.next() {
        let is_alone = silent.next().is_none();
        return (is_alone && !member.is_updated).then_some(RollStep::Restart(member.ordinal));
    }
    let outdated = || members.iter().filter(|member| !member.is_updated);
    if let Some(follower) = outdated().filter(|member| !member.leads).max_by_key(|member| member.ordinal) {
        return Some(RollStep::Restart(follower.ordinal));
    }
    let leader = outdated().next()?;
    let successor = members.iter().filter(|member| member.is_updated).min_by_key(|member| member.ordinal);
    Some(
        successor
            .map_or(RollStep::Restart(leader.ordinal), |successor| RollStep::TransferLeadership(successor.ordinal)),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::MOST_MEMBERS;
    use crate::plan::disruption_budget::quorum;

    fn outdated(count: u8, leader: u8) -> Vec<Rolled> {
        let member = |ordinal| Rolled { ordinal, is_updated: false, answers: true, leads: ordinal == leader };
        (0..count).map(member).collect()
    }

    #[test]
    fn followers_go_first_and_the_leader_last_after_it_handed_over() {
        use RollStep::{Restart, TransferLeadership};
        let mut members = outdated(3, 2);
        for expected in [Restart(1), Restart(0), TransferLeadership(0), Restart(2)] {
            assert_eq!(next_step(&members), Some(expected));
            match expected {
                Restart(ordinal) => {
                    let member = &mut members[usize::from(ordinal)];
                    *member = Rolled { is_updated: true, answers: false, ..*member };
                    assert_eq!(next_step(&members), None, "it is waited for");
                    members[usize::from(ordinal)].answers = true;
                }
                TransferLeadership(to) => members.iter_mut().for_each(|member| member.leads = member.ordinal == to),
            }
        }
        assert_eq!(next_step(&members), None);
    }

    #[test]
    fn a_member_that_never_came_up_is_replaced_and_two_are_a_persons_business() {
        let mut members = outdated(3, 0);
        members[1].answers = false;
        assert_eq!(next_step(&members), Some(RollStep::Restart(1)));
        members[2].answers = false;
        assert_eq!(next_step(&members), None);
    }

    proptest! {
        #[test]
        fn every_member_is_restarted_once_and_the_quorum_stays(count in 1..=MOST_MEMBERS, leader in 0..MOST_MEMBERS) {
            let mut members = outdated(count, leader % count);
            let (mut restarts, mut transfers) = (Vec::new(), 0);
            while let Some(step) = next_step(&members) {
                match step {
                    RollStep::Restart(ordinal) => {
                        let member = &mut members[usize::from(ordinal)];
                        prop_assert!(!member.is_updated, "{} was new", ordinal);
                        prop_assert!(!member.leads || count == 1, "a leader hands over first");
                        *member = Rolled { is_updated: true, answers: false, ..*member };
                        let answering = members.iter().filter(|member| member.answers).count();
                        prop_assert!(count < 3 || answering >= usize::from(quorum(count)));
                        prop_assert_eq!(next_step(&members), None, "one at a time");
                        members[usize::from(ordinal)].answers = true;
                        restarts.push(ordinal);
                    }
                    RollStep::TransferLeadership(to) => {
                        members.iter_mut().for_each(|member| member.leads = member.ordinal == to);
                        transfers += 1;
                    }
                }
            }
            restarts.sort_unstable();
            prop_assert_eq!(restarts, (0..count).collect::<Vec<_>>());
            prop_assert_eq!(transfers, u8::from(count > 1));
        }
    }
}
