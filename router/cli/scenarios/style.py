"""The look of a picture: light or dark as the reader's system prefers. Lines differ in dashes as well as in colour and
carry their names; the colours of deployments are those of Okabe and Ito ("Color Universal Design", 2008)."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
svg { --page: #ffffff; --ink: #1a1f27; --soft: #58616f; --rule: #e3e6eb; --wash: #f3f5f8; --ours: #0067a8;
  --best: #007a58; --bad: #c23b22; --band: #007a5822; --d0: #3f97d3; --d1: #d98200; --d2: #009e73; --d3: #cc79a7;
  --d4: #8c7a00; --d5: #d5562b; font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) { svg { --page: #11151a; --ink: #e8ebf0; --soft: #a3adba; --rule: #2b323b;
  --wash: #181e25; --ours: #6cb8f5; --best: #4fd0a4; --bad: #ff8a70; --band: #4fd0a426; --d0: #4aa3df; --d1: #f0b429;
  --d2: #35c39a; --d3: #dd97bb; --d4: #d8cc4a; --d5: #f08a4b; } }
.page { fill: var(--page); } .wash { fill: var(--wash); } text { fill: var(--ink); font-size: 12px; }
.title { font-size: 20px; font-weight: 650; } .question { font-size: 13px; fill: var(--soft); }
.panel { font-weight: 600; font-size: 12.5px; } .unit { fill: var(--soft); font-weight: 400; }
.tick { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.change { font-weight: 600; } .name { fill: var(--soft); font-size: 11px; }
.figure { font-size: 17px; font-weight: 650; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .event { stroke: var(--soft); stroke-dasharray: 2 3; }
.line { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
.line.ours { stroke: var(--ours); stroke-width: 2.5; } text.ours { fill: var(--ours); font-weight: 600; }
.line.best { stroke: var(--best); stroke-dasharray: 7 3; } text.best { fill: var(--best); }
.line.load { stroke: var(--ink); } text.load { fill: var(--ink); }
.line.bound { stroke: var(--bad); stroke-dasharray: 5 4; stroke-width: 1.25; } text.bound { fill: var(--bad); }
.line.second { stroke: var(--ours); stroke-width: 2; } text.second { fill: var(--ours); }
.line.third { stroke: var(--d3); stroke-width: 2; } text.third { fill: var(--d3); }
.limit { stroke-dasharray: 5 3; stroke-width: 1.4; }
.area.band { fill: var(--band); } .area.refused { fill: var(--bad); opacity: 0.75; } text.refused { fill: var(--bad); }
.broken { fill: var(--bad); opacity: 0.85; } .settled { stroke: var(--ours); stroke-width: 1.5; }
.d0 { --d: var(--d0); } .d1 { --d: var(--d1); } .d2 { --d: var(--d2); } .d3 { --d: var(--d3); }
.d4 { --d: var(--d4); } .d5 { --d: var(--d5); }
.line.dep { stroke: var(--d); } .area.dep { fill: var(--d); opacity: 0.8; }
text.dep { fill: var(--d); font-weight: 600; }
"""
