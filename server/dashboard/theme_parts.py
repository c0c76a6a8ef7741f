"""How the parts of the pages look: the graph, budgets, tables, timelines, the chat."""

from __future__ import annotations

from typing import Final

PARTS: Final = """
.graph{display:grid;grid-template-columns:repeat(8,minmax(0,1fr));row-gap:0}
.graph li{position:relative;text-align:center;padding-top:2px;font-size:13px;color:var(--faint);
line-height:1.3}
.graph li.node::before{content:"";display:block;width:18px;height:18px;margin:0 auto 7px;
border-radius:50%;border:2px solid var(--line-strong);background:var(--card);position:relative;
z-index:1}
.graph li.node::after{content:"";position:absolute;top:10px;left:-50%;width:100%;height:2px;
background:var(--line)}
.graph li.node:first-child::after{display:none}
.graph li.was{color:var(--soft)}
.graph li.node.was::before{background:var(--soft);border-color:var(--soft)}
.graph li.node.was::after{background:var(--soft)}
.graph li.now{color:var(--accent);font-weight:650}
.graph li.node.now::before{border-color:var(--accent);background:var(--accent);
box-shadow:0 0 0 5px var(--accent-soft)}
.graph li.node.now::after{background:var(--accent)}
.graph li.node.running::before{animation:ring 1.6s ease-in-out infinite}
.graph li.completed{color:var(--good)}
.graph li.node.completed::before{background:var(--good);border-color:var(--good);
box-shadow:0 0 0 5px var(--good-soft)}
.graph li.node.completed::after{background:var(--good)}
.graph li.failed,.graph li.cancelled{color:var(--bad)}
.graph li.node.failed::after,.graph li.node.cancelled::after{background:var(--line)}
.graph li.node.failed::before,.graph li.node.cancelled::before{background:var(--bad);
border-color:var(--bad);box-shadow:0 0 0 5px var(--bad-soft)}
.graph .times{font-size:11.5px;color:var(--faint);font-weight:500;display:block;min-height:15px}
.graph .back{grid-column:2/8;margin:2px calc(100%/12) 0;height:26px;border:2px solid var(--line);
border-top:0;border-radius:0 0 14px 14px;display:flex;align-items:flex-end;
justify-content:center}
.graph .back::before{content:"";position:absolute;left:-5.5px;top:-3px;border:5px solid transparent;
border-top:0;border-bottom:7px solid var(--line)}
.graph .back span{background:var(--card);padding:0 10px;transform:translateY(50%)}
.graph .back.was{border-color:var(--warn);color:var(--warn)}
.graph .back.was::before{border-bottom-color:var(--warn)}
.graph .back.now{border-color:var(--accent);color:var(--accent)}
.graph .back.now::before{border-bottom-color:var(--accent)}
@media (max-width:860px){
.graph{grid-template-columns:repeat(4,minmax(0,1fr));row-gap:10px}
.graph li.node:nth-child(5)::after{display:none}
.graph .back{grid-column:1/-1;margin:0;height:22px}
}
.bar{display:flex;height:10px;border-radius:99px;overflow:hidden;background:var(--sunken);gap:1px}
.bar i{display:block;height:100%;min-width:0;transition:width .5s}
.bar .spent{background:var(--ink)}
.bar .held{background:repeating-linear-gradient(135deg,var(--warn) 0 4px,transparent 4px 7px)}
.bar .done{background:var(--accent)}.bar .done.good{background:var(--good)}
.bar .done.bad{background:var(--bad)}
.bar.thin{height:6px}
.bar+p{margin-top:6px}
.money{display:grid;grid-template-columns:repeat(3,auto);gap:12px;margin-top:14px}
.money dt{font-size:12.5px;color:var(--soft);display:flex;align-items:center;gap:6px}
.money dt::before{content:"";width:9px;height:9px;border-radius:3px;background:var(--sunken);
border:1px solid var(--line-strong)}
.money .spent::before{background:var(--ink);border:0}
.money .held::before{border:0;background:repeating-linear-gradient(135deg,var(--warn) 0 3px,
transparent 3px 5px)}
.money dd{font-size:19px;font-weight:650;letter-spacing:-.01em}
table{width:100%;border-collapse:collapse;font-size:14px}
th{text-align:left;font-weight:550;font-size:12.5px;color:var(--soft);padding:0 10px 6px 0}
td{padding:9px 10px 9px 0;border-top:1px solid var(--line);vertical-align:top;
overflow-wrap:break-word}
td.name{overflow-wrap:anywhere;min-width:7em}
th.end,td.end{text-align:right}
td:last-child,th:last-child{padding-right:0}
td.num,th{white-space:nowrap}
.scroll{overflow-x:auto}
.run{display:grid;grid-template-columns:minmax(0,1fr) 134px 190px;gap:4px 20px;
align-items:center;padding:14px 20px;border-top:1px solid var(--line);color:inherit}
.run .pill{justify-self:start}
.run:hover{background:var(--sunken);text-decoration:none}
.run .goal{font-weight:600;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.runs{padding:0;overflow:hidden}.runs>h2{padding:16px 20px 12px;margin:0}
.runs .empty{border-top:1px solid var(--line)}
.timeline li{position:relative;padding:0 0 14px 22px;border-left:2px solid var(--line);
margin-left:5px}
.timeline li:last-child{padding-bottom:0}
.timeline li::before{content:"";position:absolute;left:-6px;top:6px;width:10px;height:10px;
border-radius:50%;background:var(--faint);box-shadow:0 0 0 3px var(--card)}
.timeline li.good::before{background:var(--good)}.timeline li.bad::before{background:var(--bad)}
.timeline li.warn::before{background:var(--warn)}
.timeline li.mind::before{background:var(--accent)}
.timeline li.good,.timeline li.bad,.timeline li.warn{color:inherit}
.timeline .head{display:flex;gap:10px;align-items:baseline;justify-content:space-between}
.timeline .what{font-weight:600;font-size:14px}
.timeline time{font-size:12px;color:var(--faint);font-variant-numeric:tabular-nums;
white-space:nowrap}
.timeline .words{font-size:14px;color:var(--soft)}
.scrolls{max-height:560px;overflow-y:auto;padding:2px 4px 2px 2px;scrollbar-width:thin;
background:linear-gradient(var(--card) 40%,transparent) top/100% 36px no-repeat local,
linear-gradient(transparent,var(--card) 60%) bottom/100% 36px no-repeat local,
linear-gradient(var(--line-strong),transparent) top/100% 12px no-repeat scroll,
linear-gradient(transparent,var(--line-strong)) bottom/100% 12px no-repeat scroll}
.logs{display:flex;flex-direction:column-reverse;overflow:auto;max-height:230px;
background:var(--sunken);border-radius:10px;padding:12px 14px}
.logs pre{font:12.5px/1.6 var(--mono);white-space:pre-wrap;overflow-wrap:anywhere}
.choice+.choice{margin-top:18px;padding-top:16px;border-top:1px solid var(--line)}
.choice .why,.choice .how{margin:2px 0 10px}
tr.taken .name span{font-weight:650}
tr.taken .name span::after{content:"chosen";font-size:11.5px;font-weight:600;margin-left:8px;
padding:1px 7px;border-radius:99px;background:var(--good-soft);color:var(--good)}
.approval{border-color:var(--warn);background:var(--warn-soft)}
.approval .sum{font-size:26px;font-weight:680;letter-spacing:-.02em}
.approval .row{margin-top:12px}
.talk{display:grid;gap:8px;max-height:340px;overflow-y:auto}
.talk:empty{display:none}
.said{max-width:92%;padding:8px 13px;border-radius:14px;background:var(--sunken);
white-space:pre-line;overflow-wrap:anywhere;justify-self:start;border-bottom-left-radius:4px}
.said.me{background:var(--accent);color:var(--on-accent);justify-self:end;
border-radius:14px 14px 4px 14px}
.said.action{background:none;padding:2px 4px;color:var(--soft);font-size:13.5px}
.said.action::before{content:"→ "}
.said.question{background:var(--warn-soft)}.said.error{background:var(--bad-soft);
color:var(--bad)}
.said.begun{background:var(--good-soft)}
.say{display:flex;gap:8px;align-items:stretch}
.talk:not(:empty)+.say{margin-top:12px}
.say input{flex:1;min-width:0;font:inherit;color:inherit;background:var(--card);
border:1px solid var(--line-strong);border-radius:10px;padding:9px 13px;min-height:44px}
.say input::placeholder{color:var(--faint)}
.say.big input{min-height:54px;font-size:17px;border-radius:13px;padding:0 18px}
.say.big .btn{border-radius:13px;padding:0 22px;font-size:16px}
.hero{max-width:760px;margin:16px auto 32px;display:grid;gap:14px}
.hero .title{font-size:30px;text-align:center}.hero .lead{text-align:center;margin:-8px 0 6px}
.hints{display:flex;gap:8px;flex-wrap:wrap;justify-content:center}
.hints .btn{font-size:13px;font-weight:500;color:var(--soft);min-height:34px;padding:4px 12px;
border-radius:99px;border-color:var(--line);white-space:normal;text-align:left}
.switch{display:inline-flex;gap:8px;align-items:center;cursor:pointer;min-height:38px}
.switch input{appearance:none;width:36px;height:21px;border-radius:99px;margin:0;
background:var(--line-strong);position:relative;cursor:pointer;transition:background .15s}
.switch input::after{content:"";position:absolute;left:3px;top:3px;width:15px;height:15px;
border-radius:50%;background:var(--card);transition:left .15s}
.switch input:checked{background:var(--accent)}.switch input:checked::after{left:18px}
.job+.job{margin-top:14px}
.job .row{justify-content:space-between;margin-bottom:5px}
.plot{height:190px;width:100%;margin-top:14px}
.vendors{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));gap:16px;
margin-top:16px}
.facts{display:grid;grid-template-columns:auto 1fr;gap:3px 14px;font-size:14px}
.facts dt{color:var(--soft)}.facts dd{text-align:right;overflow-wrap:anywhere}
@media (max-width:860px){
.scrolls{max-height:none;background:none}
.run{grid-template-columns:minmax(0,1fr) auto;padding:14px 16px}
.run .spend{grid-column:1/-1}.run .goal{white-space:normal}
.hero .title{font-size:24px}.say.big input{font-size:16px;padding:0 13px}
.say.big .btn{padding:0 16px}
.hero{margin-top:4px}
}
"""
