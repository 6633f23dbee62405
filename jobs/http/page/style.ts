/** Colours and shapes of the page and of the reference. One set of names, each with its light and its dark value. */
export const baseStyle = `
:root{color-scheme:light dark;--bg:light-dark(#f4f5f7,#111318);--card:light-dark(#fff,#1a1d24);--ink:light-dark(#1b1e26,#e7e9ee);
--dim:light-dark(#5b6270,#9aa2b1);--line:light-dark(#dfe2e8,#2e333e);--accent:light-dark(#3a4fd0,#93a5ff);--on:light-dark(#fff,#10131c);
--good:light-dark(#14703a,#62d394);--bad:light-dark(#b3231b,#ff8b81);--wait:light-dark(#8a5200,#f0b765);--calm:light-dark(#5b6270,#9aa2b1);
font:15px/1.45 system-ui,sans-serif;background:var(--bg);color:var(--ink)}
*{box-sizing:border-box;margin:0;scrollbar-width:thin}
body,#app{min-height:100dvh;display:flex;flex-direction:column}main{flex:1;min-height:0}
h1{font-size:1.3rem}h2{font-size:1rem;margin-bottom:.5rem}h3{font-size:1rem}
h1,h2,h3,p,dd,li,.name{overflow-wrap:anywhere}
a{color:var(--accent)}
code,pre{font:.86em/1.5 ui-monospace,monospace}
pre{overflow:auto;max-height:24rem;white-space:pre-wrap;overflow-wrap:anywhere}
ul,ol{list-style:none;padding:0}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:6px}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1rem;margin-top:.9rem}
.dim,small{color:var(--dim);font-weight:400}
`;

export const pageStyle = `
header{display:flex;align-items:center;gap:.4rem 1rem;flex-wrap:wrap;padding:.55rem 1.2rem;background:var(--card);border-bottom:1px solid var(--line)}
nav{display:flex;gap:.3rem;margin-right:auto}
nav a{padding:.35rem .8rem;border-radius:99px;color:var(--dim);text-decoration:none}
nav a[aria-current]{background:color-mix(in srgb,var(--accent) 14%,transparent);color:var(--accent);font-weight:600}
.live{color:var(--dim)}
.live::before,.pill::before{content:"";display:inline-block;width:.55em;height:.55em;border-radius:50%;background:currentColor;margin-right:.45em}
.live.on::before{background:var(--good)}
button,input{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.45rem .9rem}
button{cursor:pointer;font-weight:550}button:hover{border-color:var(--accent)}
input{width:100%;border-color:var(--dim)}
.main:is(button){background:var(--accent);border-color:var(--accent);color:var(--on)}
.danger{color:var(--bad);border-color:var(--bad)}
.quiet{border-color:transparent;background:none;color:var(--dim);text-decoration:none}
.row{display:flex;flex-wrap:wrap;align-items:center;gap:.6rem}
.row>:is(h1,h3){margin-right:auto}
.door{display:grid;place-items:center;padding:1rem}
.door form{display:grid;gap:.7rem;width:min(24rem,100%);padding:1.8rem}
.unseen:not(:focus){position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.skip{position:absolute;left:-99em}.skip:focus{left:1rem;top:.5rem;z-index:1;background:var(--card);padding:.4rem}
#main{outline:none}
#app:has(.split){height:100dvh}.split{display:grid;grid-template-columns:minmax(20rem,25rem) 1fr}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(23rem,100%),1fr));gap:0 .9rem;align-items:start}
.split>section{overflow:auto;padding:1rem 1.2rem;min-width:0}
.list{border-right:1px solid var(--line)}
.chips{display:flex;flex-wrap:wrap;gap:.35rem;margin:.7rem 0}
.chip{padding:.15rem .65rem;border-radius:99px;font-size:.85rem}.chip b{margin-left:.4em;color:var(--dim)}
.chip[aria-pressed=true]{background:var(--accent);border-color:var(--accent);color:var(--on)}.chip[aria-pressed=true] b{color:inherit}
#jobs a{display:grid;grid-template-columns:1fr auto;gap:.1rem .6rem;padding:.6rem .75rem;border-radius:10px;color:inherit;text-decoration:none;border:1px solid transparent}
#jobs a:hover{background:var(--card)}#jobs a[aria-current]{background:var(--card);border-color:var(--accent)}
#jobs :is(.dim){font-size:.82rem}#jobs a>:nth-child(even){justify-self:end}
#jobs code,#jobs .error{grid-column:1/-1;justify-self:start;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;max-width:100%}
.name{font-weight:600}
.pill{color:var(--calm);font-size:.85rem;font-weight:600;white-space:nowrap}
.pending,.running,.waiting_for_worker,.waiting_for_parallel_tasks,.waiting_for_sub_job{--tone:var(--accent)}
.waiting_for_human,.awaiting_retry{--tone:var(--wait)}.finished{--tone:var(--good)}.failed,.quarantined{--tone:var(--bad)}.cancelled{--tone:var(--calm)}
.pill{color:var(--tone,var(--calm))}
.error,.bad b,#wrong{color:var(--bad)}
p.error,.question{border-left:4px solid var(--bad)}.question{border-color:var(--wait)}.message{white-space:pre-wrap;margin-bottom:.8rem}
.back{display:none}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5rem,1fr));gap:.8rem}.wide{grid-column:1/-1}
dt{color:var(--dim);font-size:.82rem}
progress,meter{accent-color:var(--accent);width:100%;height:.7rem}dd progress{width:12rem;max-width:100%}
summary{cursor:pointer;font-weight:600}summary+pre{margin-top:.5rem}
.scroll{overflow:auto}
.graph svg{display:block;margin:auto;max-width:100%;height:auto}.graph .wide{min-width:40rem}
.graph{--way:light-dark(#98a0ae,#626b7b)}.graph rect{fill:var(--bg);stroke:var(--way);stroke-width:1.5}
.graph text{fill:var(--dim);font-size:13px}.edge text{font-size:11.5px;paint-order:stroke;stroke:var(--card);stroke-width:5px}
.edge path{fill:none;stroke:var(--way);stroke-width:1.3}#arrow path{fill:var(--way)}#arrow-lit path{fill:var(--accent)}
.edge.lit path{stroke:var(--accent);stroke-width:2.5}.edge.lit text,.node.lit text{fill:var(--ink)}
.node.lit rect{stroke:var(--accent);stroke-width:2.5}
.present rect{fill:var(--tone);stroke:var(--tone)}.present rect+rect{stroke:var(--card)}.present text{fill:var(--on);font-weight:700}
.timeline{border-left:2px solid var(--line);margin-left:.4rem}
.timeline li{position:relative;padding:.1rem 0 .7rem 1.1rem;display:grid;grid-template-columns:1fr auto;gap:0 .8rem}
.timeline li::before{content:"";position:absolute;left:-6px;top:.5em;width:10px;height:10px;border-radius:50%;background:var(--accent)}
.timeline .bad::before{background:var(--bad)}.timeline time{color:var(--dim);font-size:.85rem}.timeline li>:nth-child(n+3){grid-column:1/-1}
.load{padding:1rem 1.2rem;max-width:76rem;width:100%;margin:0 auto}.load>h2{margin:1.4rem 0 0}
.plots,.workers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));gap:0 .9rem}
.workers{grid-template-columns:repeat(auto-fill,minmax(min(17rem,100%),1fr))}
figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1rem;align-items:baseline}figcaption h2{margin-right:auto}
.key{font-size:.9rem}.key::before{content:"";display:inline-block;width:1em;height:3px;border-radius:2px;margin-right:.4em;vertical-align:.25em;background:var(--tone)}
.s0{--tone:var(--accent)}.s1{--tone:var(--wait)}
.axes{display:grid;grid-template-columns:auto 1fr;gap:.2rem .5rem;margin-top:.6rem;color:var(--dim);font-size:.8rem}
.axes svg{width:100%;height:9rem}.ys,.xs{display:flex;justify-content:space-between}.ys{flex-direction:column;text-align:right}.xs{grid-column:2}
.plot path{fill:none;stroke-width:2;vector-effect:non-scaling-stroke;stroke:var(--tone)}.plot .grid{stroke:var(--line);stroke-width:1}
.plot .area{stroke:none;fill:color-mix(in srgb,var(--accent) 16%,transparent)}.plot .s1{stroke-dasharray:5 3}
table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600}th,td{padding:.35rem .7rem .35rem 0;text-align:right;border-top:1px solid var(--line)}
th:first-child{text-align:left}thead th{color:var(--dim);font-weight:400;border:0}
.tags{display:flex;flex-wrap:wrap;gap:.3rem;margin-top:.4rem}.tags code{background:var(--bg);border:1px solid var(--line);border-radius:6px;padding:0 .4rem}
dialog{border:1px solid var(--line);border-radius:12px;background:var(--card);color:inherit;padding:1.4rem;margin:auto;max-width:min(26rem,92vw)}
dialog .row{margin-top:1.2rem;justify-content:end}dialog::backdrop{background:rgb(0 0 0/.5)}
#notice:not(:empty){position:fixed;bottom:1rem;left:50%;translate:-50%;background:var(--ink);color:var(--bg);padding:.5rem 1.1rem;border-radius:99px;max-width:92vw;width:max-content}
@media(max-width:52rem){#app:has(.split){height:auto}.split{display:block}.list{border:0}.split.has-job .list,.split:not(.has-job) .job{display:none}.back{display:inline-block;margin-bottom:.6rem}
header{padding:.5rem .7rem;gap:.4rem .6rem}header .quiet{padding:.45rem .3rem}.split>section,.load{padding:.9rem .8rem}}
@media(prefers-reduced-motion:no-preference){.live.on::before{animation:pulse 2s infinite}@keyframes pulse{50%{opacity:.35}}}
`;

export const docsStyle = `
body{display:grid;grid-template-columns:minmax(15rem,20rem) minmax(0,60rem);min-height:100dvh}
nav{border-right:1px solid var(--line);padding:1.2rem;height:100dvh;overflow:auto;position:sticky;top:0;font-size:.86rem}
nav h2{margin:1rem 0 .2rem}nav h2 a{color:inherit;text-decoration:none}nav li a{text-decoration:none;overflow-wrap:anywhere}
main{padding:1.2rem}main>p,main>ul{margin:.6rem 0}main>h2{margin-top:1.8rem}
h4{font-size:.82rem;color:var(--dim);margin:.7rem 0 .2rem}
h3{font-size:1rem;margin-bottom:.3rem}.method{color:var(--accent)}
.card li{padding:.12rem 0;overflow-wrap:anywhere}.fields{margin-left:.4rem;padding-left:.9rem;border-left:2px solid var(--line)}
:target{scroll-margin-top:1rem}section:target{border-color:var(--accent)}
@media(max-width:52rem){body{display:block}nav{position:static;height:auto;max-height:40dvh;border:0;border-bottom:1px solid var(--line)}}
`;
