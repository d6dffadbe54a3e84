// SPDX-License-Identifier: Apache-2.0
// How a page looks: light and dark, on paper, on a phone. One file, no reference outside. Text has
// a contrast of at least 4.5 with its ground, lines of 3.
#include "page/html.h"

static const char head[] =
    "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
    "<meta name='viewport' content='width=device-width,initial-scale=1'>"
    "<meta name='color-scheme' content='light dark'><link rel='icon' href='data:,'><style>";

static const char colours[] =
    ":root{--bg:#fff;--fg:#1d2126;--dim:#565e67;--rule:#d5d9de;--soft:#f3f5f7;--warn:#fdf1dc;"
    "--warn-edge:#a85c0a;--in:#2b67b1;--out:#b35c12;--link:#1f5aa6;"
    "--c0:#2b67b1;--c1:#b35c12;--c2:#2c7a3d;--c3:#a63261;--c4:#6a4bb0;--c5:#5d5d5d;--c6:#11767a;"
    "--c7:#7a6f08}"
    "@media (prefers-color-scheme:dark){:root{--bg:#15181b;--fg:#e3e6e9;--dim:#a3acb5;"
    "--rule:#3a4148;--soft:#1f2429;--warn:#33270f;--warn-edge:#e0a04a;--in:#6ea8ee;--out:#e79a55;"
    "--link:#86b7f2;--c0:#6ea8ee;--c1:#e79a55;--c2:#74c487;--c3:#ea86ad;--c4:#b29cec;"
    "--c5:#b0b0b0;--c6:#5ec4c8;--c7:#cfc05a}}";

static const char text[] =
    "*{box-sizing:border-box}html{scroll-padding-top:3em}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64em;margin:0 auto;padding:0 1em 4em;"
    "background:var(--bg);color:var(--fg)}"
    "h1{font-size:1.6em;margin:1em 0 .3em}h2{margin-top:2.2em;border-bottom:1px solid var(--rule);"
    "font-size:1.25em}h3{font-size:1.05em;margin-bottom:.3em}a{color:var(--link)}"
    "a:focus-visible,summary:focus-visible,[tabindex]:focus-visible{outline:2px solid var(--link);"
    "outline-offset:2px}small,figcaption{color:var(--dim)}"
    "nav{position:sticky;top:0;background:var(--bg);border-bottom:1px solid var(--rule);"
    "padding:.5em 0;z-index:1;overflow-x:auto;white-space:nowrap}nav a{margin-right:1.1em}"
    "table{border-collapse:collapse;margin:.5em 0}td,th{padding:.2em .8em;text-align:right;"
    "border-bottom:1px solid var(--rule)}td:first-child,th:first-child,td.text{text-align:left}"
    "th{font-weight:600}.wide{overflow-x:auto}"
    ".warn{background:var(--warn);padding:.5em 1em;border-left:4px solid var(--warn-edge)}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.15em 1em}dt{color:var(--dim)}"
    "dd{margin:0;overflow-wrap:anywhere}";

static const char shapes[] =
    ".flow{margin:.3em 0}.flow b,.flow i{display:inline-block;height:1.3em;"
    "vertical-align:middle;max-width:70%}.flow b{background:var(--in)}.flow "
    "i{background:var(--out)}"
    ".flow span{margin-left:.6em}"
    ".set{margin:.8em 0}.set img{width:56px;height:56px;object-fit:contain;background:#fff;"
    "border:1px solid var(--rule);margin:1px}.set small{display:block}"
    ".set img.stays{outline:2px solid var(--c2)}"
    ".wall{display:grid;grid-template-columns:repeat(auto-fill,minmax(132px,1fr));gap:12px}"
    "figure{margin:0;background:var(--soft);padding:8px;border-radius:6px}"
    "figure img{display:block;width:100%;height:112px;object-fit:contain;background:#fff;"
    "border:1px solid var(--rule)}figcaption{font-size:12px;line-height:1.35;color:var(--fg);"
    "overflow-wrap:anywhere}figcaption small{display:block}.none{height:112px;display:grid;"
    "place-items:center;color:var(--dim);border:1px dashed var(--rule)}"
    ".for{font-size:12px;margin-top:6px;color:var(--dim)}"
    ".many{display:flex;flex-wrap:wrap;gap:.4em 1.4em}.many small{margin-left:4px}"
    "svg{max-width:100%;height:auto}svg .grid{stroke:var(--rule)}svg text{font-size:11px;"
    "fill:var(--dim)}svg .y{text-anchor:end}svg .x{text-anchor:middle}"
    "svg polyline{fill:none;stroke-width:1.6}svg .bar{fill:var(--in)}svg .mark{stroke:var(--out);"
    "stroke-dasharray:4 3}svg .span{stroke:var(--fg);stroke-width:1.4}"
    ".c0{stroke:var(--c0)}.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}"
    ".c4{stroke:var(--c4)}.c5{stroke:var(--c5)}.c6{stroke:var(--c6)}.c7{stroke:var(--c7)}"
    "svg .t0{fill:var(--c0)}svg .t1{fill:var(--c1)}svg .t2{fill:var(--c2)}svg .t3{fill:var(--c3)}"
    "svg .t4{fill:var(--c4)}svg .t5{fill:var(--c5)}svg .t6{fill:var(--c6)}svg .t7{fill:var(--c7)}";

static const char media[] =
    "@media (max-width:40em){body{font-size:14px;padding:0 .7em 3em}td,th{padding:.2em .4em}"
    "dl{grid-template-columns:1fr}dt{margin-top:.3em}table{display:block;overflow-x:auto}"
    "td:first-child{overflow-wrap:anywhere;min-width:5em}svg.wide text{font-size:15px}}"
    "@media print{:root{--bg:#fff;--fg:#000;--dim:#444;--rule:#bbb;--soft:#fff;--warn:#fff}"
    "nav{display:none}body{max-width:none;font-size:10pt}figure,.set,svg,tr{break-inside:avoid}"
    "h2,h3{break-after:avoid}}</style>";

void html_begin(struct html *h, const char *title)
{
    html_raw(h, head);
    html_raw(h, colours);
    html_raw(h, text);
    html_raw(h, shapes);
    html_raw(h, media);
    html_raw(h, "<title>");
    html_text(h, title);
    html_raw(h, "</title></head><body>\n");
}

void html_end(struct html *h)
{
    html_raw(h, "</body></html>\n");
}

void html_again(struct html *h, int seconds)
{
    html_put(h,
             "<script>setTimeout(()=>location.reload(),%d);const k='y'+location.pathname;"
             "addEventListener('scroll',()=>{try{sessionStorage[k]=scrollY}catch(_){}});"
             "addEventListener('load',()=>{try{scrollTo(0,+sessionStorage[k]||0)}catch(_){}})"
             "</script>\n",
             1000 * seconds);
}
