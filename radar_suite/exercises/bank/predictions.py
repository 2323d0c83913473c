"""One per notebook: predict, turn a dial, explain. The answer is the letter of what happens and why."""

from radar_suite.exercises.exercise import Exercise


def _prediction(name: str, task: str, answer: str, why: str, **wrong: str) -> Exercise:
    """`wrong` says of every other letter why it is not what happens."""
    task = f'Predict first, then turn the dial and look. {task} Answer with a letter, such as `"a"`.'
    hint = "Turn it: the notebook shows which of the three happens. The reason is then one of theory, not of luck."
    return Exercise(name, task, (hint,), answer, why, tuple(wrong.items()))


LAMBDA_DIAL = _prediction(
    "lambda_dial",
    "Section 7 at focus 0.9: lambda goes from 0 to 1. The distilled line's PR-AUC on traffic (a) stays, since "
    "the expert has seen no other posts of A than the student; (b) rises, since the expert speaks of posts "
    "that nobody verified; (c) falls, since labels are better than opinions.",
    "b",
    "Where B's posts lie, A's labels say nothing and a straight line fitted on the left half is wrong. The "
    "expert bends, so it is right there too, and distillation hands that over. It can only hand over what it "
    "knows: try intake 8.",
    a="the expert has the same labels but a larger model, and the student hears it on B's posts as well",
    c="on A's own posts both say much the same; what is new comes from the other half",
)
NO_DIALS = _prediction(
    "no_dials",
    "Set `intake_beta`, `stream_focus` and `queue_overlap` to 0 and run again. In section 9 the probes' AUC "
    "(a) falls, but stays above 0.5; (b) falls to 0.5; (c) stays where it is.",
    "a",
    "Pipelines now choose alike, but each still fills its own quota: a quarter of one pipeline's posts violate"
    " its rule, far more than in the others' posts. That much the content gives away at every setting.",
    b="the quotas are left: each pipeline's posts are rich in violations of its own rule",
    c="topics, cues and others' violations gave the pipelines away, and they no longer do",
)
MORE_RISKS = _prediction(
    "more_risks",
    "Section 3 with 30 risks in place of `len(corpus.categories)`, in both routers. A post costs (a) ten times"
    " as much; (b) hardly more than before; (c) less, as risks share LoRA.",
    "b",
    "A head is one row of weights on a vector that all share; the backbone, nearly all of the cost, runs once."
    " K modules would run K times: that is what the router replaces.",
    a="only the heads multiply, and a head is a single row",
    c="a risk more is a head more; nothing gets cheaper",
)
FEWER_VIOLATIONS = _prediction(
    "fewer_violations",
    "In section 3 drop every second violating test post, at random, from `truth` and `logits`. PR-AUC and "
    "APR@R95 (a) both fall; (b) both stay; (c) PR-AUC falls, APR@R95 hardly moves.",
    "c",
    "Recall looks at violating posts alone, so a threshold at 95 % recall stays about where it was, and so do "
    "the posts below it. Precision counts cleared posts per violation: with half the violations it falls "
    "everywhere.",
    a="recall does not depend on how many violations there are, only on where they lie",
    b="precision depends on the prevalence; that is why tables name it",
)
SOFTER_TEACHER = _prediction(
    "softer_teacher",
    "After section 2 run `teacher = teacher / 2` and `t = expit(teacher)`, then sections 3 and 4 again. (a) "
    "PR-AUC falls and entropy rises; (b) PR-AUC stays and entropy rises; (c) both stay.",
    "b",
    "Halving a logit keeps every order, so what depends on ranks alone stays. Probabilities move towards 1/2: "
    "more bits, another calibration error, and another pull on a student.",
    a="the order of the posts is the same, and PR-AUC knows nothing else",
    c="probabilities move towards 1/2, and there a label carries most bits",
)
FIRST_LOSS = _prediction(
    "first_loss",
    "A fresh router says about one half of everything, and each post is verified for one of K = 3 risks. In "
    "section 2 the first loss without the mask is, against the masked one, (a) about equal; (b) about three "
    "times as large; (c) a third.",
    "b",
    "Eq. 5 adds up cells and averages over posts: log 2 for one cell, 3 log 2 for all three. The losses of the"
    " two are therefore not to be compared, not even at the start.",
    a="both are averaged over posts, and without the mask a post has K cells",
    c="more cells add up to more",
)
UNPAIRED = _prediction(
    "unpaired",
    "In section 5 take the two rows for independent: the root of the sum of both squared errors, each from its"
    " own influence. The interval becomes (a) wider; (b) the same; (c) narrower.",
    "a",
    "Both rows find the same posts hard, so their errors rise and fall together and cancel in the difference. "
    "That is what pairing buys: overlapping bars of two rows do not mean that the rows cannot be told apart.",
    b="only if the influences of both rows were uncorrelated",
    c="only if a post easy for one were hard for the other",
)
LABELS_AT_ONE = _prediction(
    "labels_at_one",
    "The experts stay as they are, and then all labels of the training posts are turned round, 1 to 0 and 0 to"
    " 1. The student at lambda = 1 (a) learns the opposite; (b) learns nothing; (c) is the same to the last "
    "bit.",
    "c",
    "At lambda = 1 the weight of the labels is 0 on every cell: human labels reach the student only through "
    "the experts, and those were trained before. Try `radar_loss(..., lam=1.0)` with both label matrices.",
    a="its loss reads no label: 1 - lambda is 0",
    b="it has a target on every cell, the experts' opinion",
)
LIMIT_OF_INTAKE = _prediction(
    "limit_of_intake",
    "Strong intake alone: in the six lines of section 1 set beta 6, focus 0, overlap 0. In the limit, on blind"
    " traffic, the mask (a) loses, since its head has seen no ordinary post; (b) ranks as the oracle does, so "
    "it cannot lose; (c) wins as much as at the default dials.",
    "b",
    "With endless posts some ordinary ones reach every queue, and r_k is monotone in the posterior at every "
    "setting. Where a learned mask loses (section 2), the finite sample is the reason, and section 4 mends it "
    "with posts.",
    a="that is the learned head's trouble; in the limit there are enough posts of every kind",
    c="neither focus nor overlap buries violations now; compare the table's two lines",
)
PREVALENCE_DIAL = _prediction(
    "prevalence_dial",
    "Section 9: the prevalence dial goes from 1 to 4. With the thresholds as they are (a) recall falls, since more "
    "violations slip through; (b) recall stays, and less is released; (c) recall and what is released both stay.",
    "b",
    "Recall is a share of violating posts, and those are as they were, only more of them. More of the traffic now is "
    "of the kind that is dispatched, so less is released. The number of violations that slip through does grow.",
    a="their number grows, their share among the violating posts does not",
    c="most violating posts are dispatched, so with more of them less is released",
)

EXERCISES = (LAMBDA_DIAL, NO_DIALS, MORE_RISKS, FEWER_VIOLATIONS, SOFTER_TEACHER, FIRST_LOSS, UNPAIRED, LABELS_AT_ONE,
             LIMIT_OF_INTAKE, PREVALENCE_DIAL)  # fmt: skip
