#!/usr/bin/python3
# probe-sklearn.py WDS_DIR CACHE C...: scikit-learn's LogisticRegression on the features that
# `zs-eval --task linear-probe --cache CACHE WDS_DIR` left, to hold lp_acc1 against. Needs python3-sklearn.
import glob, sys, tarfile, numpy as np
from sklearn.linear_model import LogisticRegression

folder, cache = sys.argv[1:3]

def labels(split):
    n = int(open(f"{folder}/{split}/nshards.txt").read())
    out = []
    for i in range(n):
        with tarfile.open(f"{folder}/{split}/{i}.tar") as t:
            out += [int(t.extractfile(m).read()) for m in t if m.name.endswith(".cls")]
    return np.array(out)

y = {s: labels(s) for s in ("train", "test")}
files = [np.load(f).astype(np.float64) for f in glob.glob(f"{cache}/*.npy")]
x = {s: next(f for f in files if len(f) == len(y[s])) for s in y}
for c in map(float, sys.argv[3:]):
    m = LogisticRegression(C=c, max_iter=5000, tol=1e-7).fit(x["train"], y["train"])
    print(f"C {c:g}: acc1 {m.score(x['test'], y['test']):.4f}")
