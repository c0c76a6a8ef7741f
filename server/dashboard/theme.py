"""How the pages look: colours for light and dark, type, and the frame.

The style sheets are text in Python, so that they are packed with the program wherever it goes.
"""

from __future__ import annotations

from typing import Final

_LIGHT: Final = """\
--page:#f6f5f2;--card:#fff;--sunken:#f2f1ed;--ink:#1b1c20;--soft:#5f626b;--faint:#72757e;
--line:#e5e3dd;--line-strong:#c9c7c0;--accent:#3b4fd8;--accent-soft:#eceefc;--on-accent:#fff;
--good:#15753b;--good-soft:#e3f3e8;--warn:#9a5b00;--warn-soft:#fcf0d9;--bad:#b3261e;
--bad-soft:#fbe7e5;--shadow:0 1px 2px rgb(20 20 30/.05),0 4px 16px rgb(20 20 30/.04);
color-scheme:light;"""

_DARK: Final = """\
--page:#0f1013;--card:#17181d;--sunken:#1e2026;--ink:#ececf0;--soft:#a5a8b3;--faint:#8d909b;
--line:#282a32;--line-strong:#41444f;--accent:#93a2ff;--accent-soft:#22274a;--on-accent:#10122a;
--good:#62cf8b;--good-soft:#14301f;--warn:#f0b45b;--warn-soft:#35270f;--bad:#ff8a80;
--bad-soft:#3b1a18;--shadow:0 1px 2px rgb(0 0 0/.4);color-scheme:dark;"""

TOKENS: Final = f"""
:root{{--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--mono:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
body.body--light{{{_LIGHT}}}
body.body--dark{{{_DARK}}}
"""

FRAME: Final = """
*,*::before,*::after{box-sizing:border-box}
body,body.body--dark,body.body--light{background:var(--page);color:var(--ink);
font:15px/1.5 var(--sans);-webkit-font-smoothing:antialiased;margin:0}
.nicegui-content{padding:0;gap:0;align-items:stretch;display:block}
h1,h2,h3,p,ol,ul,dl,dd,pre,table{margin:0;padding:0;font:inherit;letter-spacing:normal}
ol,ul{list-style:none}
a{color:var(--accent);text-decoration:none}
a:hover{text-decoration:underline}
:focus-visible{outline:2px solid var(--accent)!important;outline-offset:2px}
.skip{position:absolute;left:-999px;top:8px;background:var(--card);padding:8px 12px;
border-radius:8px;z-index:10}
.skip:focus{left:12px}
.top{display:flex;align-items:center;gap:20px;padding:0 24px;height:56px;background:var(--card);
border-bottom:1px solid var(--line);position:sticky;top:0;z-index:5}
.brand{display:flex;align-items:center;gap:9px;font-weight:650;color:var(--ink);
letter-spacing:-.01em;white-space:nowrap}
.brand:hover{text-decoration:none}
.brand::before{content:"";width:16px;height:16px;border-radius:5px;background:
conic-gradient(from 210deg,var(--accent) 0 62%,var(--good) 62% 100%)}
.top nav{display:flex;gap:4px}
.top nav a{color:var(--soft);padding:6px 10px;border-radius:8px;font-weight:500}
.top nav a:hover{background:var(--sunken);text-decoration:none}
.top nav a[aria-current]{color:var(--ink);background:var(--sunken)}
.top .end{margin-left:auto;display:flex;gap:8px;align-items:center}
.stakes{display:flex;gap:4px 10px;align-items:center;white-space:nowrap}
.page{overflow-wrap:anywhere;max-width:1180px;margin:0 auto;padding:28px 24px 64px}
.banner{background:var(--warn-soft);color:var(--warn);padding:10px 24px;font-weight:550;
border-bottom:1px solid var(--line)}
.title{font-size:24px;line-height:1.25;font-weight:650;letter-spacing:-.018em;
overflow-wrap:anywhere}
.lead{color:var(--soft);margin-top:4px}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;
box-shadow:var(--shadow);padding:18px 20px;min-width:0}
.card>h2{font-size:13px;font-weight:600;color:var(--soft);margin-bottom:12px;
letter-spacing:.01em}
.stack{display:grid;gap:16px;min-width:0;align-content:start}
.row{display:flex;gap:10px;align-items:center;flex-wrap:wrap}
.row:empty,.stack:empty{display:none}
.controls{margin-top:14px}
.columns{display:grid;grid-template-columns:minmax(0,1.65fr) minmax(0,1fr);gap:16px;
margin-top:16px}
.soft{color:var(--soft)}.small{font-size:13px}.mono{font-family:var(--mono);font-size:12.5px}
.num{font-variant-numeric:tabular-nums}.strong{font-weight:600}.words{white-space:pre-line;
overflow-wrap:anywhere}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.btn{appearance:none;border:1px solid var(--line-strong);background:var(--card);
color:var(--ink);font:inherit;font-weight:550;padding:7px 14px;border-radius:9px;
cursor:pointer;min-height:38px;white-space:nowrap}
.btn:hover{background:var(--sunken)}
.btn:disabled,.btn[aria-busy=true]{opacity:.5;cursor:default}
.btn.primary{background:var(--accent);border-color:var(--accent);color:var(--on-accent)}
.btn.primary:hover{filter:brightness(1.08)}
.btn.danger{color:var(--bad);border-color:currentColor}
.btn.quiet{border-color:transparent;background:none;color:var(--soft);padding:7px 10px}
.btn.quiet:hover{background:var(--sunken)}
.pill{display:inline-flex;align-items:center;gap:6px;padding:2px 10px;border-radius:99px;
font-size:13px;font-weight:600;background:var(--sunken);color:var(--soft);white-space:nowrap}
.pill::before{content:"";flex:none;width:7px;height:7px;border-radius:50%;background:currentColor}
.pill.good{background:var(--good-soft);color:var(--good)}
.pill.bad{background:var(--bad-soft);color:var(--bad)}
.pill.warn{background:var(--warn-soft);color:var(--warn)}
.pill.live{background:var(--accent-soft);color:var(--accent)}
.pill.live::before{animation:breathe 1.6s ease-in-out infinite}
@keyframes breathe{50%{opacity:.25}}
@keyframes ring{50%{box-shadow:0 0 0 9px var(--accent-soft)}}
.empty{color:var(--soft);padding:28px 0;text-align:center}
.q-notification{background:var(--ink)!important;color:var(--page)!important;border-radius:10px;
font:inherit;box-shadow:var(--shadow)}
.nicegui-error-popup{border-radius:12px;background:var(--card);color:var(--ink);
border:1px solid var(--line);box-shadow:var(--shadow)}
.q-dialog .ask{background:var(--card);color:var(--ink);border:1px solid var(--line);
border-radius:16px;padding:22px;width:min(26rem,calc(100vw - 32px));box-shadow:none}
.ask h2{font-size:17px;font-weight:650;margin-bottom:6px}
.ask .row{justify-content:flex-end;margin-top:18px}
@media (max-width:860px){
.columns{display:flex;flex-direction:column}.columns>.stack{display:contents}
.columns .first{order:-1}
.top{padding:0 14px;gap:8px}.page{padding:18px 14px 48px}.card{padding:16px}
.title{font-size:20px}
.btn{min-height:44px}
}
@media (max-width:640px){.top{height:auto;min-height:56px;flex-wrap:wrap;padding-bottom:8px}
.stakes{order:9;width:100%;flex-wrap:wrap}}
@media (max-width:430px){.brand span{display:none}.brand::after{content:""}}
@media (prefers-reduced-motion:reduce){*{animation:none!important;transition:none!important}}
"""

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
"""The parts of a page: the graph, budgets, tables, timelines, the chat."""

SHEET: Final = TOKENS + FRAME + PARTS
