//! The next step from the members that a group has to those that it is to have.
//!
//! What must hold: it is pure; one step at a time, and none while another one is in flight; a member joins as a learner
//! and votes when it has caught up, so that no vote counts that has nothing to show; the highest ordinal leaves first,
//! because a StatefulSet takes its pod first; a leader hands over before it leaves; after each step more than half of the
//! voters answer. No store has several members yet, so nothing calls it: [`crate::validate`] refuses them.

use std::collections::BTreeMap;

use super::disruption_budget::quorum;

/// A group as its members tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Those of the group, by ordinal. A pod that runs and was not added is not among them.
    pub members: BTreeMap<u8, Membership>,
    /// Who leads, as far as more than half of them say so.
    pub leader: Option<u8>,
    /// Whether a change of the members is not committed yet.
    pub is_changing: bool,
}

/// One member's part in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// Whether it votes; a learner only follows.
    pub votes: bool,
    /// Whether it answers.
    pub answers: bool,
    /// Whether it has all that was committed when it was asked.
    pub is_caught_up: bool,
}

/// One change of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberStep {
    /// Let this one follow.
    AddLearner(u8),
    /// Let this one vote.
    Promote(u8),
    /// Let this one lead.
    TransferLeadership(u8),
    /// Take this one out.
    Remove(u8),
}

/// The next step towards members with the ordinals below `wanted`; `None` when there is none, or none is safe now.
#[must_use]
pub fn next_step(group: &Group, wanted: u8) -> Option<MemberStep> {
    let leader = group.leader.filter(|_| !group.is_changing)?;
    // Without a quorum nothing is committed, least of all a change of the members.
    if answering_voters(group, None) < quorum(voters(group, None)) {
        return None;
    }
    let mut learners =
        group.members.iter().filter(|(_, member)| !member.votes).map(|(ordinal, member)| (*ordinal, *member));
    if let Some((learner, member)) = learners.next() {
        return match member {
            _ if learner >= wanted => Some(MemberStep::Remove(learner)),
            Membership { answers: true, is_caught_up: true, .. } => Some(MemberStep::Promote(learner)),
            // It is waited for. Another one beside it would be a second change in flight.
            _ => None,
        };
    }
    if let Some(missing) = (0..wanted).find(|ordinal| !group.members.contains_key(ordinal)) {
        return Some(MemberStep::AddLearner(missing));
    }
    let (last, _) = group.members.last_key_value().filter(|(ordinal, _)| **ordinal >= wanted)?;
    if *last == leader {
        let successor = group.members.iter().find(|(ordinal, member)| **ordinal < wanted && member.answers)?;
        return Some(MemberStep::TransferLeadership(*successor.0));
    }
    let is_safe = answering_voters(group, Some(*last)) >= quorum(voters(group, Some(*last)));
    is_safe.then_some(MemberStep::Remove(*last))
}

/// Voters beside one.
fn voters(group: &Group, without: Option<u8>) -> u8 {
    count(group, without, |member| member.votes)
}

/// Those of them that answer.
fn answering_voters(group: &Group, without: Option<u8>) -> u8 {
    count(group, without, |member| member.votes && member.answers)
}

fn count(group: &Group, without: Option<u8>, is_counted: impl Fn(&Membership) -> bool) -> u8 {
    let counted =
        group.members.iter().filter(|(ordinal, member)| Some(**ordinal) != without && is_counted(member)).count();
    u8::try_from(counted).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observe::MOST_MEMBERS;

    const WELL: Membership = Membership { votes: true, answers: true, is_caught_up: true };

    fn group(members: u8, leader: u8) -> Group {
        Group {
            members: (0..members).map(|ordinal| (ordinal, WELL)).collect(),
            leader: Some(leader),
            is_changing: false,
        }
    }

    /// What the group makes of a step.
    fn take(group: &mut Group, step: MemberStep) {
        match step {
            MemberStep::AddLearner(ordinal) => {
                let before =
                    group.members.insert(ordinal, Membership { votes: false, answers: true, is_caught_up: false });
                assert_eq!(before, None, "{ordinal} was there");
            }
            MemberStep::Promote(ordinal) => {
                let member = group.members.get_mut(&ordinal).unwrap();
                assert!(!member.votes && member.answers && member.is_caught_up, "{ordinal} is not ready to vote");
                member.votes = true;
            }
            MemberStep::TransferLeadership(ordinal) => {
                assert!(group.members[&ordinal].votes && group.members[&ordinal].answers, "{ordinal} can't lead");
                group.leader = Some(ordinal);
            }
            MemberStep::Remove(ordinal) => {
                assert_ne!(group.leader, Some(ordinal), "a leader hands over first");
                group.members.remove(&ordinal).unwrap();
            }
        }
    }

    #[test]
    fn one_becomes_three_and_three_become_one() {
        use MemberStep::{AddLearner, Promote, Remove, TransferLeadership};
        let mut group = group(1, 0);
        for (step, ordinal) in [(AddLearner(1), 1), (Promote(1), 1), (AddLearner(2), 2), (Promote(2), 2)] {
            assert_eq!(next_step(&group, 3), Some(step));
            take(&mut group, step);
            if step == AddLearner(ordinal) {
                assert_eq!(next_step(&group, 3), None, "it has not caught up");
                group.members.get_mut(&ordinal).unwrap().is_caught_up = true;
            }
        }
        assert_eq!(next_step(&group, 3), None);
        group.leader = Some(2);
        for step in [TransferLeadership(0), Remove(2), Remove(1)] {
            assert_eq!(next_step(&group, 1), Some(step));
            take(&mut group, step);
        }
        assert_eq!(next_step(&group, 1), None);
    }

    #[test]
    fn nothing_is_changed_beside_a_change_or_without_a_leader_or_a_quorum() {
        let well = group(3, 0);
        assert_eq!(next_step(&well, 5), Some(MemberStep::AddLearner(3)));
        assert_eq!(next_step(&Group { is_changing: true, ..well.clone() }, 5), None);
        assert_eq!(next_step(&Group { leader: None, ..well.clone() }, 5), None);
        let mut few = well;
        for ordinal in [1, 2] {
            few.members.get_mut(&ordinal).unwrap().answers = false;
        }
        assert_eq!(next_step(&few, 5), None);
        assert_eq!(next_step(&few, 1), None);
    }

    #[test]
    fn nobody_leaves_whom_the_rest_needs() {
        let mut group = group(3, 0);
        group.members.get_mut(&1).unwrap().answers = false;
        assert_eq!(next_step(&group, 2), None, "two voters of whom one is silent are no quorum");
        group.members.get_mut(&1).unwrap().answers = true;
        assert_eq!(next_step(&group, 2), Some(MemberStep::Remove(2)));
    }

    proptest! {
        /// Members fall silent and come back, leaders change; whatever happens, no step takes the quorum, and in calm the
        /// wanted members are reached.
        #[test]
        fn a_group_reaches_its_size_and_keeps_its_quorum(
            from in 1..=MOST_MEMBERS,
            wanted in 1..=MOST_MEMBERS,
            events in proptest::collection::vec((0..MOST_MEMBERS, any::<bool>(), any::<bool>()), 0..40),
        ) {
            let mut group = group(from, 0);
            let step = |group: &mut Group| {
                let Some(step) = next_step(group, wanted) else { return false };
                let voters_before = voters(group, None);
                take(group, step);
                assert!(answering_voters(group, None) >= quorum(voters(group, None)), "{step:?} took the quorum: {group:?}");
                assert!(voters(group, None).abs_diff(voters_before) <= 1);
                assert!(group.members.values().filter(|member| !member.votes).count() <= 1, "{group:?}");
                group.is_changing = !matches!(step, MemberStep::TransferLeadership(_));
                if group.is_changing {
                    assert_eq!(next_step(group, wanted), None, "one change at a time");
                }
                true
            };
            for (ordinal, answers, commits) in events {
                if let Some(member) = group.members.get_mut(&ordinal) {
                    *member = Membership { answers, is_caught_up: answers, ..*member };
                }
                let leads = group.members.iter().find(|(_, member)| member.votes && member.answers);
                if group.leader.is_none_or(|leader| !group.members.get(&leader).is_some_and(|member| member.answers)) {
                    group.leader = leads.map(|(ordinal, _)| *ordinal);
                }
                if commits {
                    group.is_changing = false;
                }
                step(&mut group);
            }
            // Calm.
            for _ in 0..8 * usize::from(MOST_MEMBERS) {
                for member in group.members.values_mut() {
                    *member = Membership { answers: true, is_caught_up: true, ..*member };
                }
                group.leader = group.leader.or(Some(0));
                group.is_changing = false;
                if !step(&mut group) {
                    break;
                }
            }
            let reached: Vec<u8> = group.members.keys().copied().collect();
            prop_assert_eq!(reached, (0..wanted).collect::<Vec<_>>());
            prop_assert!(group.members.values().all(|member| member.votes));
        }
    }
}
