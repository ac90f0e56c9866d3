/** ECharts with what we draw, and our colours. Loaded by Chart.vue when it is needed. */
import { BarChart, LineChart } from "echarts/charts";
import { AriaComponent, GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import { init, registerTheme, use, type EChartsType } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { colour } from "./colour";

use([AriaComponent, BarChart, CanvasRenderer, GridComponent, LegendComponent, LineChart, TooltipComponent]);

function theme(): object {
  const line = { lineStyle: { color: colour("--line") } };
  const axis = {
    axisLine: line,
    axisTick: { show: false },
    axisLabel: { color: colour("--ink-soft"), fontSize: 11 },
    splitLine: { lineStyle: { color: colour("--line-soft") } },
  };
  return {
    color: [
      colour("--brand"),
      colour("--good"),
      colour("--warn"),
      colour("--bad"),
      colour("--still"),
      "#8a6fb3",
    ],
    textStyle: { fontFamily: "inherit", color: colour("--ink") },
    categoryAxis: { ...axis, splitLine: { show: false } },
    valueAxis: axis,
    timeAxis: { ...axis, splitLine: { show: false } },
    legend: { textStyle: { color: colour("--ink-soft"), fontSize: 11 }, itemWidth: 12, itemHeight: 8 },
    // Drawn and not built of HTML: the Content-Security-Policy allows no style in text.
    tooltip: {
      renderMode: "richText",
      backgroundColor: colour("--sheet"),
      borderColor: colour("--line"),
      textStyle: { color: colour("--ink"), fontSize: 12 },
    },
  };
}

export function charts(place: HTMLElement, dark: boolean): EChartsType {
  const name = dark ? "hongyan-dark" : "hongyan-light";
  registerTheme(name, theme());
  return init(place, name);
}
