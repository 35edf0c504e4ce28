"""How panels look: one sheet, everything in it below ``.kr-panel``; colours are JupyterLab's."""

from __future__ import annotations

from kernel_runtime.jupyter.panels.picture import ROW, ROWS_ABOVE
from kernel_runtime.jupyter.panels.style_more import MORE

_SHEET = """
.kr-panel{--kr-text:var(--jp-ui-font-color1,#212121);--kr-faint:var(--jp-ui-font-color2,#757575);
--kr-back:var(--jp-layout-color1,#fff);--kr-edge:var(--jp-border-color2,#d0d0d0);--kr-brand:var(--jp-brand-color1,#1976d2);
--kr-bad:var(--jp-error-color1,#d32f2f);--kr-good:var(--jp-success-color1,#388e3c);--kr-warn:var(--jp-warn-color1,#f57c00);
--kr-c0:var(--kr-brand);--kr-c1:#f28e2b;--kr-c2:#3fa45b;--kr-c3:#b07aa1;--kr-c4:#e15759;--kr-c5:#2aa6a6;
color:var(--kr-text);font:var(--jp-ui-font-size1,13px)/1.4 var(--jp-ui-font-family,system-ui,sans-serif);max-width:860px;
padding:10px 12px 8px;border:1px solid var(--kr-edge);border-radius:6px;background:var(--kr-back);overflow:hidden}
.kr-panel .widget-html,.kr-panel .widget-html-content,.kr-panel .jupyter-widget-html-content{line-height:inherit;font-size:inherit;margin:0;height:auto}
.kr-panel .kr-c0{--kr-tone:var(--kr-c0)}.kr-panel .kr-c1{--kr-tone:var(--kr-c1)}.kr-panel .kr-c2{--kr-tone:var(--kr-c2)}
.kr-panel .kr-c3{--kr-tone:var(--kr-c3)}.kr-panel .kr-c4{--kr-tone:var(--kr-c4)}.kr-panel .kr-c5{--kr-tone:var(--kr-c5)}
.kr-panel table{border-collapse:collapse;border-spacing:0;table-layout:auto;width:100%;margin:0;font-size:inherit;color:inherit;border:0}
.kr-panel table tr{background:none!important}
.kr-panel table th,.kr-panel table td{height:ROWpx;line-height:ROWpx;padding:0 10px 0 0;text-align:left;white-space:nowrap;border:0;
vertical-align:middle;max-width:none;font-weight:inherit}
.kr-panel table thead th{color:var(--kr-faint);font-size:11px;font-weight:400;letter-spacing:.02em}
.kr-panel table thead{border:0}
.kr-panel .kr-tree td:first-child,.kr-panel .kr-tree th:first-child{width:1px;padding-left:4px}
.kr-panel .kr-tree td:nth-child(5){font-variant-numeric:tabular-nums;color:var(--kr-faint)}
.kr-panel .kr-tree td:nth-child(6){font-variant-numeric:tabular-nums;width:1px}
.kr-panel .kr-tree td:nth-child(3){font-family:var(--jp-code-font-family,monospace);font-size:12px;color:var(--kr-faint)}
.kr-panel .kr-tree svg{display:block;overflow:visible}
.kr-panel svg path{fill:none;stroke:var(--kr-tone);stroke-width:2}
.kr-panel svg .kr-full{fill:var(--kr-tone);stroke:none}
.kr-panel svg .kr-hollow{fill:var(--kr-back);stroke:var(--kr-tone);stroke-width:2}
.kr-panel svg .kr-ring{fill:var(--kr-back);stroke:var(--kr-tone);stroke-width:1.5}
.kr-panel .kr-number{color:var(--kr-faint);font-variant-numeric:tabular-nums;margin-right:8px}
.kr-panel .kr-chip{font-style:normal;font-size:11px;line-height:16px;padding:0 7px;margin-left:8px;border-radius:8px;display:inline-block;
border:1px solid var(--kr-edge);color:var(--kr-faint)}
.kr-panel .kr-number + .kr-chip{margin-left:0}
.kr-panel .kr-chip.kr-automatic{border-color:transparent;padding:0 2px}
.kr-panel .kr-chip.kr-current,.kr-panel .kr-chip.kr-live{border-color:var(--kr-brand);color:var(--kr-brand)}
.kr-panel .kr-chip.kr-pinned,.kr-panel .kr-chip.kr-gate{border-color:var(--kr-text);color:var(--kr-text)}
.kr-panel .kr-line::before{content:"";display:inline-block;width:8px;height:8px;border-radius:4px;margin-right:6px;background:var(--kr-tone)}
.kr-panel .kr-bar{display:inline-block;width:56px;height:6px;border-radius:3px;margin-right:8px;vertical-align:middle;overflow:hidden;
background:var(--jp-layout-color3,#e0e0e0)}
.kr-panel .kr-bar>span{display:block;height:100%;background:var(--kr-brand);border-radius:3px}
.kr-panel .kr-faint{color:var(--kr-faint)}
.kr-panel .kr-head{display:flex;align-items:center;gap:10px;margin:0 0 4px 4px;color:var(--kr-faint)}
.kr-panel .kr-head .kr-bar{width:90px;margin:0}
.kr-panel .kr-head b{font-size:15px;color:var(--kr-text)}
.kr-panel .kr-stack{display:grid;grid-template-columns:minmax(0,1fr);max-height:420px;overflow:auto;margin:0;width:100%}
.kr-panel .kr-stack>*{grid-area:1/1;margin:0;width:100%;height:auto}
.kr-panel .kr-stack>.kr-picture{pointer-events:none;z-index:1}
.kr-panel .kr-rows{padding-top:TOPpx;align-self:start;height:auto;display:block}
.kr-panel .kr-rows>label,.kr-panel .kr-rows>.widget-label{display:none}
.kr-panel .kr-rows button{display:block;width:100%;height:ROWpx;margin:0;padding:0;border:0;border-radius:4px;box-shadow:none;
background:none;color:transparent;font-size:1px}
.kr-panel .kr-rows button:hover,.kr-panel .kr-rows button:focus{box-shadow:none}
.kr-panel .kr-rows button:hover{background:color-mix(in srgb,var(--kr-text) 7%,transparent)}
.kr-panel .kr-rows button.mod-active,.kr-panel .kr-rows button.mod-active:hover{background:color-mix(in srgb,var(--kr-brand) 16%,transparent);box-shadow:inset 3px 0 var(--kr-brand)}
.kr-panel .kr-rows button:focus-visible{outline:2px solid var(--kr-brand);outline-offset:-2px}
.kr-panel .kr-actions{flex-flow:row wrap;align-items:center;margin:6px 0 0;overflow:visible}
.kr-panel .kr-actions button{width:auto;padding:0 12px;margin:2px 6px 2px 0;border-radius:4px}
.kr-panel .kr-actions .widget-text,.kr-panel .kr-actions .widget-dropdown{width:150px;margin:2px 6px 2px 0}
.kr-panel .widget-dropdown>select{background-image:linear-gradient(45deg,transparent 50%,var(--kr-text) 50%),linear-gradient(135deg,var(--kr-text) 50%,transparent 50%);
background-size:5px 5px;background-position:right 13px center,right 8px center;background-repeat:no-repeat;padding-right:24px;text-overflow:ellipsis}
.kr-panel .kr-actions button:disabled{background:var(--jp-layout-color2,#eee);color:var(--kr-faint);opacity:.6}
.kr-panel .kr-actions .widget-label{color:var(--kr-faint);margin:2px 8px 2px 4px}
.kr-panel .kr-gap{margin-left:auto!important}
.kr-panel .kr-said{min-height:20px;margin:4px 0 0 4px;white-space:normal}
.kr-panel .kr-said.kr-error{color:var(--kr-bad)}
.kr-panel .kr-said.kr-done{color:var(--kr-good)}
.kr-panel .kr-diff td:first-child{width:16px;text-align:center;font-weight:700}
.kr-panel .kr-diff td{font-family:var(--jp-code-font-family,monospace);font-size:12px;max-width:260px!important;overflow:hidden;text-overflow:ellipsis}
.kr-panel .kr-diff .kr-added td:first-child{color:var(--kr-good)}
.kr-panel .kr-diff .kr-removed td:first-child{color:var(--kr-bad)}
.kr-panel .kr-diff .kr-changed td:first-child{color:var(--kr-warn)}
"""
SHEET = f"<style>{(_SHEET + MORE).replace('ROW', str(ROW)).replace('TOP', str(ROW * ROWS_ABOVE))}</style>"
