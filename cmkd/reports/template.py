"""The page's template (jinja2); a module, so that every way of installing carries it along."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Leaderboard: {{ suite }}</title>
<style>
  :root { --ink: #24292f; --faint: #6e7781; --line: #e3e6ea; --shade: #f6f8fa;
    --up: #1b7837; --down: #762a83; }
  body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff;
    margin: 2rem auto; padding: 0 1.25rem; max-width: 92rem; }
  h1 { font-size: 1.6rem; margin-bottom: .2rem; }
  h2 { font-size: 1.25rem; margin-top: 2.2rem; padding-bottom: .3rem;
    border-bottom: 1px solid var(--line); }
  h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
  .count { color: var(--faint); font-weight: normal; font-size: 1rem; }
  .about { color: #424a53; max-width: 60rem; font-size: .92rem; padding-left: 1.2rem; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
  th, td { padding: .32rem .4rem; text-align: right; white-space: nowrap; }
  th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom;
    white-space: normal; }
  td { border-bottom: 1px solid var(--line); }
  .left { text-align: left; }
  tbody tr:hover { background: var(--shade); }
  tr.empty td, tr.peek td { color: var(--faint); }
  tr.peek td { font-style: italic; }
  code { font: .95em ui-monospace, "DejaVu Sans Mono", monospace; }
  .up { color: var(--up); font-weight: 600; }
  .down { color: var(--down); font-weight: 600; }
  .figures { display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start;
    margin-top: 1.5rem; }
  figure { margin: 0; flex: 1 1 30rem; max-width: max-content; }
  img { max-width: 100%; height: auto; box-sizing: border-box; border: 1px solid var(--line);
    border-radius: 6px; }
  .notes { font-size: .92rem; padding-left: 1.2rem; margin-top: .3rem; }
</style>
</head>
<body>
<h1>Leaderboard of the suite <code>{{ suite }}</code></h1>
{% for section in sections %}
<h2>{{ section.dataset }}
<span class="count">{{ section.done }} of {{ section.planned }} runs done</span></h2>
<ul class="about">
{% for sentence in section.explanation %}
<li>{{ sentence }}</li>
{% endfor %}
<li>A gain in <span class="up">green</span> or <span class="down">purple</span>:
its interval leaves zero out.</li>
</ul>
<div class="wide">
<table>
<thead><tr>
{% for head in section.headings %}
<th{% if head.left %} class="left"{% endif %}>{{ head.text }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in section.rows %}
<tr{% if row.look %} class="{{ row.look }}"{% endif %}>
{% for cell in row.cells %}
{% if loop.index0 == 1 %}
<td class="left"><code>{{ cell }}</code></td>
{% elif loop.index0 in row.gains %}
<td{% if row.gains[loop.index0] %} class="{{ row.gains[loop.index0] }}"{% endif %}>{{ cell }}</td>
{% else %}
<td{% if section.headings[loop.index0].left %} class="left"{% endif %}>{{ cell }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if section.notes %}
<h3>Remarks</h3>
<ul class="notes">
{% for note, runs in section.notes %}
<li>
{%- for run in runs %}<code>{{ run }}</code>{{ ", " if not loop.last }}{% endfor -%}
: {{ note }}</li>
{% endfor %}
</ul>
{% endif %}
{% if section.remarks %}
<h3>The published data, as declared</h3>
<ul class="notes">
{% for remark in section.remarks %}
<li>{{ remark }}</li>
{% endfor %}
</ul>
{% endif %}
{% if section.published %}
<h3>{{ published.title }}</h3>
<div class="wide">
<table>
<thead>
<tr>{% for head in published.heads %}<th class="left">{{ head }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for row in section.published %}
<tr>{% for cell in row %}<td class="left">{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="about">{{ published.grades }}</p>
{% endif %}
<div class="figures">
{% for figure in section.figures %}
<figure><img alt="{{ figure.title }}" src="{{ figure.data }}"></figure>
{% endfor %}
</div>
{% else %}
<p>The suite has no runs.</p>
{% endfor %}
{% if claims %}
<h2>The paper's claims</h2>
<p class="about">Estimates and verdicts; claims.md beside this page has each rule and reason.</p>
<div class="figures"><figure><img alt="The paper's claims" src="{{ claims }}"></figure></div>
{% endif %}
</body>
</html>
"""
