"""How the pages look: colours for light and dark, type, and the frame. Parts: theme_parts.py.

The style sheets are text in Python, so that they are packed with the program wherever it goes.
"""

from __future__ import annotations

from typing import Final

from server.dashboard.theme_parts import PARTS

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

SHEET: Final = TOKENS + FRAME + PARTS
