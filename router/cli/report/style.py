"""The look of a page: light and dark by what the reader's system prefers, dark on white on paper. System fonts.

Colours of lines and models are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind readers tell
apart; some are lighter, for the names that are written on them. No colour carries a meaning alone: lines are labelled
and dashed, areas named.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --ink: #1a1f27; --soft: #58616f; --rule: #dde1e7;
  --wash: #f0f2f5; --router: #0067a8; --oracle: #007a58; --random: #66707e; --fixed: #b84e00; --band: #0067a826;
  --warn: #fff4e2; --edge: #d98a1f; --m0: #3f97d3; --m1: #e69f00; --m2: #009e73; --m3: #cc79a7; --m4: #f0e442;
  --m5: #e0732a; --on: #10141a; --event: #66707e2b; }
@media (prefers-color-scheme: dark) { :root { --page: #11151a; --card: #191e25; --ink: #e8ebf0; --soft: #a3adba;
  --rule: #313944; --wash: #222933; --router: #6cb8f5; --oracle: #4fd0a4; --random: #a3adba; --fixed: #f5a45d;
  --band: #6cb8f52e; --warn: #33291a; --edge: #f0b45c; --m0: #4aa3df; --m1: #f0b429; --m2: #35c39a; --m3: #dd97bb;
  --m4: #f4ea6a; --m5: #f08a4b; --event: #a3adba30; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { margin: 0.15rem 0 0.75rem; font-size: 1.9rem; line-height: 1.2; letter-spacing: -0.015em;
  overflow-wrap: anywhere; text-wrap: balance; }
h2 { margin: 0 0 0.4rem; font-size: 1.3rem; letter-spacing: -0.01em; }
h3 { margin: 1.75rem 0 0.25rem; font-size: 1.02rem; overflow-wrap: anywhere; }
p { margin: 0.4rem 0 0.9rem; max-width: 48rem; }
.eyebrow, dt, caption, .note, summary { color: var(--soft); font-size: 0.87rem; }
.eyebrow { margin: 0; text-transform: uppercase; letter-spacing: 0.07em; font-size: 0.78rem; }
.lede { font-size: 1.1rem; max-width: 50rem; }
section { margin-top: 1.5rem; padding: 1.5rem; background: var(--card); border: 1px solid var(--rule);
  border-radius: 0.7rem; }
.warn { margin: 0.75rem 0; padding: 0.6rem 0.9rem; max-width: none; background: var(--warn); border-radius: 0.4rem;
  border-left: 4px solid var(--edge); }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0.75rem;
  margin: 1.25rem 0 0; }
.cards > div { display: flex; flex-direction: column; padding: 0.8rem 0.95rem; background: var(--card);
  border: 1px solid var(--rule); border-radius: 0.6rem; }
.cards dt { line-height: 1.3; } .cards dd { margin: 0; }
.cards .big { font-size: 1.55rem; font-weight: 650; letter-spacing: -0.02em; font-variant-numeric: tabular-nums; }
.cards .big small { font-size: 0.95rem; font-weight: 500; }
.cards .note { margin-top: auto; font-size: 0.79rem; line-height: 1.35; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: 0.3rem 1.25rem; margin: 0.5rem 0 1rem; }
.facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
code { font: 0.85em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1.25rem 0 0.5rem; break-inside: avoid; min-width: 0; }
figcaption { font-weight: 600; font-size: 0.95rem; margin-bottom: 0.35rem; }
figcaption span { display: block; font-weight: 400; font-size: 0.87rem; color: var(--soft); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 0.5rem 2rem; }
.pair > * { min-width: 0; }
.wide, .chart { overflow-x: auto; }
.wide { margin: 0.5rem 0 0.75rem; }
.chart svg { display: block; height: auto; width: 100%; font-size: 13px; }
svg text { fill: var(--ink); } svg .tick { fill: var(--soft); font-size: 12px; }
svg .axis-title { fill: var(--soft); font-size: 12.5px; }
.grid { stroke: var(--rule); } .axis, .whisker { stroke: var(--soft); } .whisker { stroke-width: 1.25; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.router { stroke: var(--router); stroke-width: 2.75; } .mark.router, .bar { fill: var(--router); }
.line.oracle { stroke: var(--oracle); stroke-dasharray: 9 4; } text.oracle { fill: var(--oracle); }
.line.random { stroke: var(--random); stroke-dasharray: 2 4; } text.random { fill: var(--random); }
.line.fixed { stroke: var(--fixed); stroke-dasharray: 6 3 1 3; } text.fixed { fill: var(--fixed); }
text.router { fill: var(--router); font-weight: 600; }
.drop { stroke: var(--router); stroke-dasharray: 1 3; } .rule { stroke: var(--fixed); stroke-dasharray: 5 4; }
.mark.fixed, .bar.down { fill: var(--fixed); } .mark.oracle { fill: var(--oracle); }
.mark.random { fill: var(--random); }
.mark { stroke: var(--card); stroke-width: 1.5; }
.area.band { fill: var(--band); } .area.mass { fill: var(--rule); } .area.event { fill: var(--event); }
.area.m0, .swatch.m0 { fill: var(--m0); background: var(--m0); }
.area.m1, .swatch.m1 { fill: var(--m1); background: var(--m1); }
.area.m2, .swatch.m2 { fill: var(--m2); background: var(--m2); }
.area.m3, .swatch.m3 { fill: var(--m3); background: var(--m3); }
.area.m4, .swatch.m4 { fill: var(--m4); background: var(--m4); }
.area.m5, .swatch.m5 { fill: var(--m5); background: var(--m5); }
.stack { stroke: var(--card); stroke-width: 1.5; }
svg text.inside { fill: var(--on); font-weight: 600; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; margin-right: 0.45em; border-radius: 0.15em; }
.halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.mini { display: block; margin-left: auto; } .mini text { font-size: 10px; fill: var(--soft); }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 0.35rem; }
th, td { padding: 0.32rem 0.5rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { padding-left: 0.5rem; }
th:first-child { text-align: left; overflow-wrap: break-word; font-weight: 500; min-width: 7.5rem; max-width: 18rem; }
thead th, thead th:first-child { font-weight: 600; color: var(--soft); vertical-align: bottom; line-height: 1.3;
  border-bottom: 1.5px solid var(--soft); }
tbody tr:hover { background: var(--wash); }
tfoot th, tfoot td, tfoot th:first-child { font-weight: 650; border-bottom: 0; }
details { margin: 0.6rem 0; } summary { cursor: pointer; padding: 0.2rem 0; }
summary:focus-visible, .wide:focus-visible, .chart:focus-visible { outline: 2px solid var(--router);
  outline-offset: 2px; border-radius: 0.2rem; }
.prompt { text-align: left; min-width: 20rem; max-width: 40rem; white-space: pre-line; overflow-wrap: anywhere; }
.sub { display: block; color: var(--soft); font-size: 0.82rem; font-weight: 400; min-width: 8rem;
  overflow-wrap: break-word; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.5rem; margin: 0.25rem 0 0.75rem; padding: 0;
  list-style: none; font-size: 0.9rem; }
.nowrap { white-space: nowrap; }
@media (max-width: 40rem) { .cards { grid-template-columns: 1fr 1fr; }
  main { padding: 1.25rem 0.75rem; } section { padding: 1rem 0.85rem; }
  h1 { font-size: 1.45rem; } .broad svg { min-width: 42rem; } .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: 0.5rem; } }
@media print { :root { color-scheme: light; --page: #ffffff; --card: #ffffff; --ink: #000000; --soft: #444444;
  --rule: #c4c8ce; --wash: #f4f4f4; --router: #0067a8; --oracle: #007a58; --random: #555555; --fixed: #b84e00;
  --band: #0067a826; --warn: #fff4e2; --m0: #3f97d3; --m1: #e69f00; --m2: #009e73; --m3: #cc79a7; --m4: #f0e442;
  --m5: #e0732a; }
  body { font-size: 9.5pt; } main { max-width: none; padding: 0; }
  section { padding: 0; border: 0; } h2, h3 { break-after: avoid; } tr { break-inside: avoid; }
  .wide, .chart { overflow: visible; } tfoot { display: table-row-group; } thead { display: table-header-group; }
  table { font-size: 8pt; } .prompt { min-width: 0; } * { print-color-adjust: exact; } }
"""
