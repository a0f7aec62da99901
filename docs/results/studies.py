"""What is compared with what: the studies, with the experiment that each arm runs."""

from pathlib import Path

from claims import Gap, Ratio
from study import SUCCESS, Arm, Study, returns

from skillrl.errors import BadInput

RESULTS = Path(__file__).parent
ROOT = RESULTS.parents[1]
DATA = RESULTS / "data"  # <study>/<arm>-s<seed>.csv

SAME = "All arms have the same body, task, env steps on it, network widths, and 1/16 update per env step."
CALIBRATED_GOAL = (
    "Settings were chosen on seed 100. There DIAYN as configured before (8 skills, noise of 1 on what the "
    "discriminator is fitted to, observations as they are, a temperature of 0.1, 1/16) told one skill in seven after "
    "228,000 env steps, and was stopped; so were two others, early. Of three that were run to their end, with 8, 8 and "
    "16 skills, the last led farthest: to 12 forwards, where the others came to 2, and to 31 backwards. Its controller "
    "was inside the goal for 99 env steps. Of the other arms, also on seed 100: flat SAC 37 (31 where its temperature "
    "starts at 1), action repeat 44, 48 and 38 with actions held for 5, 10 and 25 env steps, flat PPO 49. Tried and "
    "given up: METRA's and CSF's hurdles, of which skills and action repeat passed one each, flat SAC none; finetuning "
    "there, where the best of sixteen of CSF's skills of seed 100 passed 0.25 of one, and after 300,000 env steps more "
    "0.02 or none (`task=half_cheetah_hurdles downstream=finetune downstream.updates=2 downstream.collect=16`, actor "
    "kept, a temperature that starts at 0.001 or at 0.1), with actor and critic kept, after 150,000, none. METRA's "
    "and CSF's settings were tried once each, later, and kept: 82 and 105. METRA's own untrained networks were run on "
    "seed 0 (`experiment=metra/half_cheetah_goal pretrain.env_steps=0`): 16.7, as DIAYN's, for neither moves the body."
)
CALIBRATED_ANT = (
    "The settings of DIAYN were chosen on seed 100: as HalfCheetah's, but with 8 skills that see where they are; those "
    "that do not came to 10 cells in 300,000 env steps, these to 41 in 160,000. The task was not tried beforehand, and "
    "no other arm was tuned for it. Seen afterwards: these skills end 0.6 to 1.3 from their start after 200 env steps "
    "(medians of seeds 0 to 4), while a goal with a radius of 3 moves on, by up to 7.5 along each axis, every 50. What "
    "would be needed are skills that cross such a way in that time. METRA's, with HalfCheetah's settings and as many "
    "env steps as DIAYN's, came to no more than 0.4 from their start on seed 100, and that arm was given up."
)
CALIBRATED_MAZE = (
    "Settings were tried on seed 100, once each, and kept. There skills of DIAYN, METRA and CSF, and SAC with actions "
    "held for 5 env steps, reached all goals; flat SAC (its temperature starting at 0.1 or at 1) and the untrained "
    "skill network none. So the claim is against these, and that a held action of this body is as good as a skill is "
    "no surprise. Flat PPO was not tried; seen afterwards, it reaches all goals on four seeds of five: skills "
    "are not needed here."
)


def hierarchical(name: str) -> dict[str, Arm]:
    """The arms of ``conf/experiment/diayn/<name>``."""
    return {
        "ours": Arm(f"diayn/{name}", "Controller over DIAYN skills"),
        "untrained": Arm(f"diayn/{name}/untrained", "Same controller, untrained skill network"),
        "flat_sac": Arm(f"diayn/{name}/flat_sac", "Flat SAC"),
        "flat_ppo": Arm(f"diayn/{name}/flat_ppo", "Flat PPO"),
        "action_repeat": Arm(f"diayn/{name}/action_repeat", "SAC with action repeat"),
    }


STUDIES = {
    "quickstart": Study(
        title="Quickstart: a controller over DIAYN skills, on a sparse goal task",
        about=(
            "Skills are pretrained without reward; then a controller learns which one to use when, on a task that pays "
            "1 where the goal is reached and 0 everywhere else. The settings are `experiment=quickstart`, and "
            "`conf/experiment/quickstart/` for the other arms; all of them get the same env steps on the task, and the "
            "flat ones twice as many updates. Settings and task were chosen on seeds 100 to 102. What was seen there: "
            "with goals 2 away and decisions of 10 s for both, action repeat reached as many as skills did (0.87 and "
            "0.81 of the last training episodes, one seed each); with 2.5 away it reached none. So the goals are 3 "
            "away, and each kind of choice is held as long as suits it: a skill 40 s, an action 10 s. Before that, "
            "nearer goals and shorter pretraining had been tried on seeds 0 and 1, and given up."
        ),
        arms={
            "ours": Arm("quickstart", "Controller over pretrained skills"),
            "untrained": Arm("quickstart/untrained", "Same controller, untrained skill network"),
            "flat_sac": Arm("quickstart/flat_sac", "Flat SAC"),
            "action_repeat": Arm("quickstart/action_repeat", "SAC with action repeat"),
            "random": Arm("quickstart/random", "Pretrained skills chosen at random", skills_of="ours"),
        },
        ours="ours",
        measure=SUCCESS,
        claim=Gap(effect=0.3),
    ),
    "discriminator_noise": Study(
        title="Noise on what DIAYN's discriminator is fitted to, on and off",
        about=(
            "The quickstart as it is, whose discriminator is fitted to x and y with normal noise of deviation 0.3 on "
            "them, and the same without (`experiment=quickstart/without_noise`). The runs with noise are those of the "
            "quickstart's page. The claim asks for no size of the gap: the option has to show that it helps at all. "
            "Seen afterwards, and not claimed: the skills' median displacement (`displacement_median` in "
            "eval/metrics.json) was larger with noise on each seed, 0.90, 1.26, 0.82, 0.88 and 2.02 against 0.58, "
            "0.81, 0.57, 0.46 and 1.42."
        ),
        arms={
            "ours": Arm("quickstart", "With noise of 0.3"),
            "without": Arm("quickstart/without_noise", "Without noise"),
        },
        ours="ours",
        measure=SUCCESS,
        claim=Gap(effect=0),
    ),
    "sac": Study(
        title="SAC alone, against Stable-Baselines3's",
        about=(
            "HalfCheetah by its own reward, observed as Gymnasium's, 1,000 steps an episode: our SAC as a flat learner "
            "(`experiment=sac/half_cheetah`), and Stable-Baselines3's as a guest of the same loop and the same envs "
            "(`experiment=sac/half_cheetah_sb3`). Both have two layers of 128, batches of 128, two updates for every "
            "env step of 8 envs, a learning rate of 3e-4, tau 0.005, gamma 0.99 and a temperature that is tuned from "
            "1. What differs: until the first update theirs acts uniformly at random, ours by its untrained policy. "
            "No setting was tuned."
        ),
        arms={
            "ours": Arm("sac/half_cheetah", "SAC, ours", phase="pretrain"),
            "sb3": Arm("sac/half_cheetah_sb3", "SAC, Stable-Baselines3's"),
        },
        ours="ours",
        measure=returns(digits=0),
        claim=Ratio(least=0.7),
        last_tenth=True,
        pretraining=False,
    ),
    "finetune": Study(
        title="Finetuning the best of DIAYN's skills, against training from scratch",
        about=(
            "Hopper by its own reward, 1/4 update per env step. Skills are pretrained without reward; the best one is "
            "found by trial, whose env steps count, and its actor and critic are trained further "
            "(`experiment=finetune/hopper`). From scratch (`experiment=finetune/hopper_scratch`) networks, agent and "
            "budget are the same, and nothing is kept. What is kept was chosen on seeds 100 and 101: the return at the "
            "end was 567 and 411 with both, 423 and 432 with the actor alone (whose return falls to a fifth or "
            "less at first, while its critic is new), 304 and 446 from scratch. So little was to be "
            "expected of a claim about the end, and it asks for no size of the gap; what skills are good for here is "
            "the beginning of the curves. The trial of the skills ends between two rounds, so those runs take up to 7 "
            "env steps more, of 100,000."
        ),
        arms={
            "ours": Arm("finetune/hopper", "Best skill, finetuned", phase="finetune"),
            "scratch": Arm("finetune/hopper_scratch", "From scratch", phase="finetune"),
        },
        ours="ours",
        measure=returns(digits=1),
        claim=Gap(effect=0),
    ),
    "spread": Study(
        title="Finetuning the best of a team's skills, against training from scratch",
        about=(
            "Cooperative navigation, mpe2's simple_spread with three agents, 25 steps an episode, 1/4 update per env "
            "step of a team. Skills of the team are pretrained without reward by MASD; the best one is found by trial, "
            "whose env steps count, and trained further (`experiment=masd/spread`). From scratch "
            "(`experiment=masd/spread/scratch`) actor, centralised critic, agent and budget are the same, and nothing "
            "is kept. A return is the sum over agents. Nothing was tuned: on seed 100 the return was -52, from scratch "
            "-46. Seen afterwards on seeds 0 to 4: skills that are told apart by where all agents are lead them away, "
            "2.6 to 2.9 in the median (`displacement_median` in eval/metrics.json), where agents and landmarks start "
            "within 1 of the middle on each axis, and earn -143 to -122 before they are trained further; fresh "
            "networks begin near -76."
        ),
        arms={
            "ours": Arm("masd/spread", "Best team skill, finetuned", phase="finetune"),
            "scratch": Arm("masd/spread/scratch", "From scratch", phase="finetune"),
        },
        ours="ours",
        measure=returns(digits=1),
        claim=Gap(effect=0),
    ),
    "half_cheetah_imagined": Study(
        title="Skills in imagination: HalfCheetah's own reward",
        about=(
            "Choreographer in small on the HalfCheetah, 1/8 update per env step. A world model, codes of its states "
            "and a skill for each are pretrained without reward; then a controller learns in the same model which "
            "code to choose at each step for the body's own reward, 200 steps an episode, and model and skills are "
            "trained further (`experiment=choreographer/half_cheetah`). From scratch (`…/scratch`) networks, agent "
            "and budget are the same, and nothing was pretrained. The model sees each column in units of its spread, "
            "and the actors' modes are kept in their box by inverting gradients. Settings and budget were chosen on "
            "seeds 100 to 102. Training return on 101: 333 after 8,000 env steps, from scratch -1, and after 18,000 "
            "325 and 209, so what pretraining gives is time; on 102 299 after 5,000, from scratch -21. Before, with "
            "raw states, a tanh and twice the env steps of the task it did not hold: 145, 149, 37, -98 and 258 on "
            "these seeds, from scratch 31, -70, -119, 5 and -37 (2.1 pooled standard errors); with model and skills "
            "frozen -128, 4, -52, -30 and 49."
        ),
        arms={
            "ours": Arm("choreographer/half_cheetah", "Choice among imagined skills"),
            "scratch": Arm("choreographer/half_cheetah/scratch", "Same agent, from scratch"),
        },
        ours="ours",
        measure=returns(digits=1),
        claim=Gap(effect=0),
        against=("scratch",),
    ),
    "half_cheetah_goal": Study(
        title="A controller over skills: HalfCheetah's goals",
        about=(
            "Skills of the HalfCheetah are pretrained without reward, DIAYN's told apart by x and blind to it, METRA's "
            "and CSF's from all of the observation; then a controller chooses among them on METRA's goal task, which "
            "pays 1 for each env step within 3 of a goal that is drawn for each episode, here within 30 of the start "
            "(METRA's: 100). "
            f"{SAME} Pretraining has 1/4. Over METRA's and CSF's directions the controller is SAC, over DIAYN's "
            "sixteen skills, and over the untrained network, which is DIAYN's, DQN. " + CALIBRATED_GOAL
        ),
        arms={
            **hierarchical("half_cheetah_goal"),
            "metra": Arm("metra/half_cheetah_goal", "Controller over METRA skills"),
            "csf": Arm("csf/half_cheetah_goal", "Controller over CSF skills"),
        },
        ours="ours",
        measure=returns("env steps inside the goal", digits=1),
        claim=Gap(effect=0),
        against=("untrained", "flat_sac", "flat_ppo", "action_repeat"),
    ),
    "ant_multi_goals": Study(
        title="A controller over DIAYN skills: the Ant in moving goals",
        about=(
            "Skills of the Ant are pretrained without reward, told apart by x and y; then a controller chooses among "
            "them on a task that pays 1 for each env step inside a goal, which moves on every 50 steps. "
            f"{SAME} Pretraining has 1/4. " + CALIBRATED_ANT
        ),
        arms=hierarchical("ant_multi_goals"),
        ours="ours",
        measure=returns("env steps inside a goal", digits=1),
        claim=Gap(effect=0),
        against=("flat_sac", "flat_ppo", "action_repeat"),
    ),
    "point_zero_shot": Study(
        title="Goals without learning: the point",
        about=(
            "Skills of a point are pretrained without reward, 50,000 env steps with 1/32 update each, as for the "
            "board; then each step takes the skill that is said to lead to the goal, one of 32 that lie 7 away, within "
            "1. Nothing is learnt on the task. Beside it SAC learns it from scratch, with 1/8. Nothing was tuned; "
            "on seed 100 METRA's and LSD's skills reached all goals, CSF's 0.90."
        ),
        arms={
            "ours": Arm("zero_shot/point", "METRA, no learning on the task"),
            "csf": Arm("zero_shot/point/csf", "CSF, no learning on the task"),
            "lsd": Arm("zero_shot/point/lsd", "LSD, no learning on the task"),
            "untrained": Arm("zero_shot/point/untrained", "METRA's networks, untrained"),
            "flat_sac": Arm("zero_shot/point/flat_sac", "Flat SAC"),
        },
        ours="ours",
        measure=SUCCESS,
        claim=Gap(effect=0.3),
        against=("untrained",),
    ),
    "point_maze": Study(
        title="A controller over skills: the point's maze",
        about=(
            "Skills of a point are pretrained without reward on an open plane; then a controller chooses among them, "
            "for 5 env steps at a time, in the medium maze, where it is paid 1 for the goal, which is drawn for each "
            f"episode, and nothing else. {SAME} Pretraining has 1/8. Over METRA's and CSF's directions the controller "
            "is SAC, over DIAYN's eight skills DQN. " + CALIBRATED_MAZE
        ),
        arms={
            **hierarchical("point_maze"),
            "metra": Arm("metra/point_maze", "Controller over METRA skills"),
            "csf": Arm("csf/point_maze", "Controller over CSF skills"),
        },
        ours="ours",
        measure=SUCCESS,
        claim=Gap(effect=0.3),
        against=("flat_sac", "untrained"),
    ),
}


def find_study(name: str) -> Study:
    """Errors: BadInput where there is none."""
    if name not in STUDIES:
        raise BadInput(f"there is no study {name!r}: the studies are {', '.join(STUDIES)}")
    return STUDIES[name]
