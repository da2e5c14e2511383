"""Speed and quality on this machine: `mtmh bench NAME` runs one of these and keeps
results/NAME.json.

They are part of the checkout, not of the installed package. `studies` holds the tables of the
paper, `faults` what goes wrong under load; the rest measures speed.
"""

BENCHMARKS = {  # name: (function, imported when it is called; what it measures)
    "training": (
        "benchmarks.training:main",
        "Pairs a second of the training loop, beside what the machine could do.",
    ),
    "merge": (
        "benchmarks.retrieval:merge",
        "Users a second of the quota merge, beside a plain loop.",
    ),
    "retrieval": (
        "benchmarks.retrieval:main",
        "Triggers a second of the tuned index, beside exact search.",
    ),
    "serving": (
        "benchmarks.serving:main",
        "The router beside the ensembles that it calls; equal to the offline lists?",
    ),
    "channels": (
        "benchmarks.channels:main",
        "What two, three and eight channels cost a request; equal to the offline lists?",
    ),
    "backend": (
        "benchmarks.backend:main",
        "What Triton's models compute in numpy, beside TorchScript and ONNX Runtime.",
    ),
    "memory": (
        "benchmarks.memory:main",
        "Triton's memory with one and with two versions, beside their files.",
    ),
    "steady": (
        "benchmarks.steady:main",
        "Ten minutes of load: latencies, errors and memory over time.",
    ),
    "faults": (
        "benchmarks.faults.run:main",
        "Eight faults under load: what must be 0, and the time to recover.",
    ),
    "log": (
        "benchmarks.log:main",
        "Appends a second to the durable log, beside an fsync a record.",
    ),
    "page": (
        "benchmarks.page:main",
        "Time until the router's page has drawn its first answer; its pictures.",
    ),
    "daily": (
        "benchmarks.daily:main",
        "Daily metrics of 1, 3 and 10 million log rows: seconds and memory.",
    ),
    "monitor": (
        "benchmarks.monitor:main",
        "A day of the monitor; pictures of the dashboard's tabs.",
    ),
    "platform": (
        "benchmarks.platform:main",
        "Simulated users served a second, beside the platform alone.",
    ),
    "resources": (
        "benchmarks.resources:main",
        "Memory and disk that each step needs, by a formula of the data's size.",
    ),
    "quality": (
        "benchmarks.studies.quality:main",
        "Recall and relevance of every model on T2; the paper's order.",
    ),
    "study": (
        "benchmarks.leaderboard.study:main",
        "The leaderboard (`mtmh study`): every model, tuned with the same budget.",
    ),
    "frontier": (
        "benchmarks.leaderboard.frontier:main",
        "Recall against relevance over w_r, tau_q and alpha, beside the leaderboard's models.",
    ),
    "published": (
        "benchmarks.studies.published:main",
        "SASRec and HSTU in the papers' leave-one-out protocol, beside printed figures.",
    ),
    "ablation": ("benchmarks.studies.ablation:main", "Which parts of the training data pay."),
    "weights": ("benchmarks.studies.weights:main", "Pairs weighted by user and by age."),
    "sweep": ("benchmarks.studies.sweep:main", "What w_r and both temperatures do (Table 4)."),
    "cold": ("benchmarks.studies.cold:main", "What finds cold and fresh items."),
    "prerank": (
        "benchmarks.studies.prerank:main",
        "What the preranker adds, and what a joint ranking loses.",
    ),
    "divide": (
        "benchmarks.studies.divide:main",
        "Divide and Conquer: retrieval a cluster, prompts, the exponent of the merge.",
    ),
    "quotas": (
        "benchmarks.studies.quotas:main",
        "Snake merge, a searched alpha, an alpha a request: is any above the best fixed one?",
    ),
    "noise": (
        "benchmarks.studies.noise:main",
        "Content replaced by noise: when the relevance head stops paying.",
    ),
    "content": (
        "benchmarks.studies.content:main",
        "Topic match of neighbours before and after contrastive training.",
    ),
    "convergence": (
        "benchmarks.studies.convergence:main",
        "How fast new items settle, with and without L_R (Figure 7).",
    ),
    "refresh": (
        "benchmarks.studies.refresh:main",
        "New items into a trained version, beside training anew.",
    ),
    "aa": (
        "benchmarks.studies.aa:main",
        "Are the intervals as sure as they say? 2,000 A/A and A/B tests.",
    ),
    "ab": (
        "benchmarks.studies.ab:main",
        "One head against the merge among simulated users (Table 5).",
    ),
}
