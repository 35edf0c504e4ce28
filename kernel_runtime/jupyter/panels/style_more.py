"""How gauges, tables with chips, cards and logs look; a part of the one sheet (``style``)."""

from __future__ import annotations

MORE = """
.kr-panel .kr-tabs{margin:2px 0 6px;overflow:visible}
.kr-panel .kr-tabs button{width:auto;height:26px;line-height:24px;padding:0 12px;margin:0 6px 0 0;border-radius:13px;box-shadow:none;
border:1px solid var(--kr-edge);background:none;color:var(--kr-text)}
.kr-panel .kr-tabs button.mod-active{border-color:var(--kr-brand);color:var(--kr-brand);box-shadow:none;
background:color-mix(in srgb,var(--kr-brand) 12%,transparent)}
.kr-panel .kr-tabs>label,.kr-panel .kr-tabs>.widget-label{display:none}
.kr-panel .kr-gauges{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:8px;margin:2px 0 4px}
.kr-panel .kr-gauge{--kr-tone:var(--kr-brand);border:1px solid var(--kr-edge);border-radius:6px;padding:8px 10px 4px;min-width:0}
.kr-panel .kr-gauge.kr-nearly{--kr-tone:var(--kr-warn);border-color:var(--kr-warn)}
.kr-panel .kr-gauge.kr-full{--kr-tone:var(--kr-bad);border-color:var(--kr-bad)}
.kr-panel .kr-gauge header{color:var(--kr-faint);font-size:11px;line-height:18px}
.kr-panel .kr-gauge p{margin:0;line-height:22px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.kr-panel .kr-gauge p b{font-size:17px;font-weight:600;font-variant-numeric:tabular-nums}
.kr-panel .kr-gauge footer{font-size:11px;line-height:18px;font-variant-numeric:tabular-nums}
.kr-panel .kr-gauge .kr-bar{display:block;width:100%;height:4px;margin:2px 0 6px}
.kr-panel .kr-gauge .kr-bar>span{background:var(--kr-tone)}
.kr-panel .kr-gauge .kr-none{visibility:hidden}
.kr-panel svg.kr-chart{display:block;width:100%;height:48px}
.kr-panel svg .kr-area{fill:var(--kr-tone);fill-opacity:.16;stroke:none}
.kr-panel svg .kr-stroke{stroke:var(--kr-tone);stroke-width:1.5;vector-effect:non-scaling-stroke;stroke-linejoin:round}
.kr-panel svg .kr-base{stroke:var(--kr-edge);stroke-width:1;vector-effect:non-scaling-stroke}
.kr-panel svg .kr-limit{stroke:var(--kr-bad);stroke-width:1;stroke-dasharray:4 3;vector-effect:non-scaling-stroke}
.kr-panel .kr-chip.kr-nearly,.kr-panel .kr-chip.kr-ask{border-color:var(--kr-warn);color:var(--kr-warn)}
.kr-panel .kr-chip.kr-full,.kr-panel .kr-chip.kr-deny{border-color:var(--kr-bad);color:var(--kr-bad)}
.kr-panel .kr-chip.kr-allow{border-color:var(--kr-good);color:var(--kr-good)}
.kr-panel .kr-warnings{list-style:none;margin:4px 0 0 4px;padding:0;color:var(--kr-warn)}
.kr-panel .kr-warnings time,.kr-panel .kr-list time{color:var(--kr-faint);font-variant-numeric:tabular-nums;margin-right:8px}
.kr-panel .kr-list td:first-child{padding-left:4px}
.kr-panel .kr-list .kr-chip{margin-left:0}
.kr-panel .kr-list td{max-width:300px!important;overflow:hidden;text-overflow:ellipsis}
.kr-panel .kr-list code{font-family:var(--jp-code-font-family,monospace);font-size:12px;background:none;color:inherit;padding:0}
.kr-panel .kr-scroll{max-height:340px;overflow:auto}
.kr-panel .kr-rights{padding-top:ROWpx;align-self:start;height:auto;display:block}
.kr-panel .kr-actions .kr-wide.widget-text{width:260px}
.kr-panel .kr-actions .kr-wide.widget-dropdown{width:460px;max-width:100%}
.kr-panel table.kr-fixed{table-layout:fixed}
.kr-panel .kr-fixed th:nth-child(1){width:72px}.kr-panel .kr-fixed th:nth-child(2){width:27%}.kr-panel .kr-fixed th:nth-child(3){width:62px}.kr-panel .kr-fixed th:nth-child(4){width:104px}
.kr-panel .kr-fixed td{overflow:hidden;text-overflow:ellipsis}
.kr-panel .kr-refused{table-layout:fixed!important}
.kr-panel .kr-refused td:nth-child(1){width:40%}.kr-panel .kr-refused td:nth-child(2){width:52px}
.kr-panel .kr-wishes input[type=checkbox]{margin:3px 8px 0 4px;align-self:center}
.kr-panel p{margin:4px 0 4px 4px;white-space:normal}
.kr-panel ul{margin:4px 0;padding-left:18px}
.kr-panel .kr-wishes label,.kr-panel .kr-wishes .widget-label{font-family:var(--jp-code-font-family,monospace);font-size:12px;color:var(--kr-text)}
.kr-panel .kr-wishes>*{width:100%;margin:0}
.kr-panel pre.kr-log{display:flex;flex-direction:column-reverse;max-height:340px;overflow:auto;margin:2px 0 0;padding:6px 8px;
border:1px solid var(--kr-edge);border-radius:4px;background:var(--jp-cell-editor-background,#f5f5f5);color:var(--kr-text);
font-family:var(--jp-code-font-family,monospace);font-size:12px;line-height:1.5;white-space:pre-wrap;overflow-wrap:anywhere}
.kr-panel pre.kr-log>span{display:block;padding-left:158px;text-indent:-158px}
.kr-panel pre.kr-log time,.kr-panel pre.kr-log i{display:inline-block;text-indent:0;font-style:normal;color:var(--kr-faint);width:72px}
.kr-panel pre.kr-log .kr-l-warning i{color:var(--kr-warn)}
.kr-panel pre.kr-log .kr-l-error i,.kr-panel pre.kr-log .kr-l-error{color:var(--kr-bad)}
.kr-panel.kr-card .kr-head{margin-left:0}
.kr-panel.kr-card{border:2px solid var(--kr-brand);padding:12px 14px}
.kr-panel.kr-card.kr-over{border-width:1px;border-color:var(--kr-edge)}
.kr-panel .kr-question p{margin:2px 0;white-space:normal}
.kr-panel .kr-question .kr-beware{color:var(--kr-warn)}
.kr-panel .kr-question .kr-what{font-size:15px;margin:4px 0 6px}
.kr-panel .kr-question code{font-family:var(--jp-code-font-family,monospace);font-size:14px;font-weight:600;padding:0;background:none;color:var(--kr-text);overflow-wrap:anywhere}
.kr-panel .kr-question blockquote{margin:6px 0;padding:4px 10px;border-left:3px solid var(--kr-edge);color:var(--kr-text);font-style:italic;background:none}
.kr-panel .kr-question blockquote small{display:block;font-style:normal;color:var(--kr-faint)}
.kr-panel .kr-waiting{margin:6px 0 0;padding:6px 0 0;border-top:1px solid var(--kr-edge);max-height:170px;overflow:auto}
.kr-panel .kr-count{display:block;height:4px;border-radius:2px;overflow:hidden;background:var(--jp-layout-color3,#e0e0e0);margin:8px 0 2px}
.kr-panel .kr-count>span{display:block;height:100%;background:var(--kr-brand)}
"""
