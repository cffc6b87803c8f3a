"""How does an evaluation look on one page that can be mailed, printed and read in ten years?

`markup` builds elements and escapes every text that is not markup; `charts` and `bars` draw SVG; `quality`,
`calibration`, `sources`, `reasons` and `lineage` are the sections, `page` puts them together; `options` and `write` are
the command's side. The next section is a file here. Nothing on a page is fetched and nothing on it runs. Text in, text
out: the same figures, command line and date give the same bytes.
"""
