// The page at work: draws the pictures that figures.js describes, and again whenever their look, their width or what they show changes.
"use strict";

(() => {
  const page = JSON.parse(document.getElementById("pictures").textContent);
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = [];
  let asked = "auto";
  let printing = false;

  const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const isDark = () => !printing && (asked === "dark" || (asked === "auto" && dark.matches));
  const look = (width) => ({
    ...Object.fromEntries(["paper", "ink", "muted", "line", "accent", "second", "good", "bad", "font"].map((name) => [name, css(name)])),
    heat: isDark() ? page.heat.dark : page.heat.light,
    width,
    still: printing,
  });

  // What a picture shows now: its controls stand in a fieldset before it. `of` chooses among several sets of data, the rest is its state.
  const state = (figure) => {
    const found = {};
    for (const input of figure.querySelectorAll("input")) {
      if (input.type === "checkbox") found[input.name] = input.checked;
      else if (input.checked) found[input.dataset.key] = input.value;
    }
    return found;
  };

  const draw = (chart) => {
    const { figure, box } = chart;
    const shown = state(figure);
    const name = figure.dataset.picture;
    const data = shown.of === undefined ? page.pictures[name] : page.pictures[name][shown.of];
    const kind = figure.dataset.kind;
    const seen = look(box.clientWidth);
    box.style.height = `${FIGURES.height(kind, data, shown, seen, echarts)}px`;
    if (chart.drawn) chart.drawn.dispose();
    chart.drawn = echarts.init(box, null, { renderer: "svg" });
    chart.drawn.setOption(FIGURES.option(kind, data, seen, shown, echarts));
    chart.at = -1;
    chart.stops = stops(chart.drawn.getOption());
    chart.width = box.clientWidth;
  };
  const drawAll = () => {
    root.dataset.look = isDark() ? "dark" : "light";
    charts.forEach(draw);
  };

  // Where the arrow keys stop: at all that a pointer can reach, in every series. A line without dots and a bar of no length are not among it. Where
  // all series are told of at once, one stop for each place along the axis.
  const stops = ({ series, tooltip }) => {
    const alongAxis = tooltip[0].trigger === "axis";
    const isReached = ({ type, showSymbol }, value) =>
      value !== null && (alongAxis ? type !== "custom" : !(type === "line" && showSymbol === false)) && !(type === "bar" && value === 0);
    const all = series.flatMap((one, seriesIndex) =>
      (one.silent ? [] : one.data || []).flatMap((item, dataIndex) => {
        const told = item !== null && item.value !== undefined ? item.value : item;
        const [place, value] = Array.isArray(told) ? told : [dataIndex, told];
        return isReached(one, value) ? [{ seriesIndex, dataIndex, place }] : [];
      }),
    );
    if (!alongAxis) return all;
    const places = new Map(all.reverse().map((stop) => [stop.place, stop]));
    return [...places.values()].sort((one, other) => one.place - other.place);
  };

  // The arrow keys go from bar to bar, as a pointer would.
  const step = (chart, by) => {
    if (!chart.stops.length) return;
    chart.at = Math.min(Math.max(chart.at + by, 0), chart.stops.length - 1);
    chart.box.dataset.stop = `${chart.at + 1} of ${chart.stops.length}`;
    const { seriesIndex, dataIndex } = chart.stops[chart.at];
    chart.drawn.dispatchAction({ type: "showTip", seriesIndex, dataIndex });
  };

  for (const figure of document.querySelectorAll("figure[data-picture]")) {
    const box = figure.querySelector(".chart");
    const chart = { figure, box };
    charts.push(chart);
    figure.addEventListener("change", () => draw(chart));
    box.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (by) {
        event.preventDefault();
        step(chart, by);
      }
      if (event.key === "Escape") chart.drawn.dispatchAction({ type: "hideTip" });
    });
    box.addEventListener("blur", () => chart.drawn.dispatchAction({ type: "hideTip" }));
  }

  const chooser = document.getElementById("look");
  chooser.addEventListener("change", () => {
    asked = chooser.value;
    drawAll();
  });
  dark.addEventListener("change", drawAll);
  // On paper: light, open, and as wide as A4 and Letter are within their margins; a browser tells the width of the paper to nobody.
  const PAPER = "700px";
  window.addEventListener("beforeprint", () => {
    printing = true;
    document.body.style.width = PAPER;
    document.querySelectorAll("details").forEach((one) => one.setAttribute("data-was", one.open) || (one.open = true));
    drawAll();
  });
  window.addEventListener("afterprint", () => {
    printing = false;
    document.body.style.width = "";
    document.querySelectorAll("details").forEach((one) => (one.open = one.getAttribute("data-was") === "true"));
    drawAll();
  });
  let waiting = 0;
  new ResizeObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(() => charts.filter((chart) => chart.width !== chart.box.clientWidth).forEach(draw), 80);
  }).observe(document.body);

  drawAll();
  root.dataset.drawn = "yes";
})();
