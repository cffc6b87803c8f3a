"""How hard is this request, and for whom?

A prompt is scanned once (`hashing.scan`, capped); `features` turns the scan into structural figures, `hashing` into
presence flags of hashed word and character n-grams. An `Estimator` answers with a calibrated P(adequate) by model:
`heuristic` out of hand-set weights, `trained` out of an artefact that `train` fitted and `artefact` spells in bytes.
`evaluate` scores an estimator as a two-model router.

Invariants: the same prompt and artefact give the same answer, on every machine and under every PYTHONHASHSEED; the
serving path never imports scikit-learn; loading an artefact runs no code that is in it; nothing here chooses.
What routing needs is the gain (P(large) - P(small)), so the heads of one artefact share rows, features and folds.

The next estimator: one file with a class that has `estimate(request) -> Scored`, and a line in `registry`.
"""
