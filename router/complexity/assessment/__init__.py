"""What lies behind the figures of an evaluation: where is the estimator right, where wrong, what does it go by?

`rows` keeps what was said of each prompt beside what came true; `curves` draws that as quality and cost over the share
sent to large and as reliability; `importance` shuffles features between prompts and sees what is lost, `weights` reads
which way single features push; `intervals` says how far a figure can be believed. All are values in, values out; the
same rows and the same generator give the same figures. The next view of the rows is a file here.
"""
