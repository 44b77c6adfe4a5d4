"""The frame of the HTML report: its style and the order of its sections. The blanks are filled in page.py.

Self-contained: no script, nothing fetched; light or dark as the reader's system is; readable on a phone.
"""

from __future__ import annotations

from string import Template

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Duplicate images: $lake</title>
<style>
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #1c2430; --soft: #5b6675; --line: #dfe3e8;
  --accent: #0b66c3; --keep: #1a7f4b; --bytes: #6b46c1; --pixels: #0b66c3; --edit: #b45309; --scene: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1b2129; --ink: #e6eaf0; --soft: #9aa6b5;
  --line: #303945; --accent: #66b0ff; --keep: #4ccb8a; --bytes: #b79cf7; --pixels: #66b0ff; --edit: #f0a94e;
  --scene: #a3adba; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.2rem; }
h3 { margin: 0; font-size: 1rem; }
h3 span { margin-left: .5rem; color: var(--accent); font-weight: 600; }
p { margin: .25rem 0 .75rem; }
small, .soft { color: var(--soft); font-size: .82rem; }
.path { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .82rem;
  overflow-wrap: anywhere; }
.notice { padding: .6rem .9rem; border-left: 4px solid var(--edit); background: var(--card); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0; }
dl div, article, .wide, details { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
dl div { padding: .75rem .9rem; }
dt { color: var(--soft); font-size: .82rem; }
dd { margin: 0; font-size: 1.45rem; font-weight: 650; font-variant-numeric: tabular-nums; }
dd small { display: block; font-weight: 400; line-height: 1.3; }
.wide { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: .94rem; }
th, td { padding: .5rem .9rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-size: .82rem; font-weight: 600; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.example { margin: 0 0 .4rem; min-width: 14rem; }
.example small { display: block; overflow-wrap: anywhere; }
.bar { display: inline-block; width: 5rem; height: .55rem; margin-right: .6rem; border-radius: .3rem;
  background: var(--line); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); }
article { padding: .9rem; margin: 0 0 1rem; break-inside: avoid; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem; }
figure { margin: 0; min-width: 0; border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }
figure.kept { border: 2px solid var(--keep); }
figure img, figure .none { display: block; width: 100%; height: 8.5rem; object-fit: contain; background: var(--page); }
figure .none { display: grid; place-items: center; color: var(--soft); font-size: .82rem; }
figcaption { display: grid; justify-items: start; gap: .2rem; padding: .5rem .6rem;
  font-size: .78rem; line-height: 1.35; }
figcaption div { display: flex; flex-wrap: wrap; gap: 0 .7em; color: var(--soft); }
figcaption span { white-space: nowrap; }
figcaption .path { font-size: .75rem; }
.badge { padding: 0 .5em; border: 1px solid; border-radius: 1em; font-size: .75rem; line-height: 1.5;
  white-space: nowrap; }
.keeper { color: var(--card); background: var(--keep); border-color: var(--keep); }
.same_bytes { color: var(--bytes); } .same_pixels { color: var(--pixels); }
.edited_copy { color: var(--edit); } .other { color: var(--scene); }
details { padding: .75rem .9rem; margin: 0 0 .75rem; }
summary { cursor: pointer; font-weight: 600; }
pre { margin: .5rem 0; overflow-x: auto; font-size: .82rem; line-height: 1.45; }
@media (max-width: 40rem) { .bar { display: none; } }
@media (max-width: 30rem) { .row { grid-template-columns: 1fr 1fr; } th, td { padding: .45rem .6rem; }
  dd { font-size: 1.2rem; } }
</style>
</head>
<body>
<h1>Duplicate images</h1>
<p class="soft">Lake <bdi class="path">$lake</bdi> · run $run_id</p>
$notice
<dl>$figures</dl>
<h2>By relation</h2>
$relations
<h2>Removable images by folder</h2>
$prefixes
<h2>Images that could not be read</h2>
$rejects
<h2>Clusters</h2>
$clusters
<h2>Ask for more</h2>
<p>The tables are in <bdi class="path">$tables</bdi>; <code>views.sql</code> beside this page opens them by name.</p>
<details><summary>An example</summary>
<pre>spark-sql -i views.sql

SELECT uri, keeper_uri, relation, similarity, size_bytes
FROM duplicates WHERE removable ORDER BY size_bytes DESC LIMIT 20;</pre></details>
<details><summary>Settings of this run</summary>
<pre>$settings</pre></details>
<p class="soft">dedup_spark $version</p>
</body>
</html>
""")
