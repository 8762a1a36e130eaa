// How every picture is drawn: plain data -> an option of the chart library. Pure: no document, no clock, so that the same pictures can be made
// without a browser. `look` holds what depends on where it is drawn: {ink, muted, line, paper, accent, bad, good, width, font}, and `still` where
// nobody can point or scroll.
"use strict";

const FIGURES = (() => {
  const HATCH = { symbol: "rect", dashArrayX: [1, 0], dashArrayY: [2, 4], rotation: -Math.PI / 4 };

  // --- words and numbers ---------------------------------------------------------------------------------------------------------------

  const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  // Layer and arm names come from whoever answered: a tooltip is HTML.
  const safe = (text) => String(text).replace(/[&<>"']/g, (found) => ESCAPES[found]);

  const number = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "-";
    const size = Math.abs(value);
    if (size >= 10000) return Math.round(value).toLocaleString("en-US");
    return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
  };
  const ms = (value) => `${number(value)} ms`;
  const signed = (value) => `${value > 0 ? "+" : value < 0 ? "-" : ""}${ms(Math.abs(value))}`;
  const percent = (share) => `${(100 * share).toFixed(Math.abs(share) < 0.1 ? 1 : 0).replace(/^-0\.0$/, "0.0")} %`;
  const plain = (value) => Number(value.toPrecision(6)).toString();

  // --- what every picture shares -------------------------------------------------------------------------------------------------------

  const ground = (look) => ({
    animation: false,
    backgroundColor: "transparent",
    textStyle: { fontFamily: look.font, color: look.ink },
    aria: { enabled: true, decal: { show: false } },
    tooltip: {
      confine: true,
      backgroundColor: look.paper,
      borderColor: look.line,
      textStyle: { color: look.ink, fontSize: 12, fontFamily: look.font },
      extraCssText: "max-width: 360px; white-space: normal;",
    },
  });
  const axis = (look, more) => ({
    nameTextStyle: { color: look.muted },
    nameLocation: "middle",
    axisLine: { show: true, lineStyle: { color: look.line } },
    axisTick: { lineStyle: { color: look.line } },
    axisLabel: { color: look.muted, hideOverlap: true },
    splitLine: { lineStyle: { color: look.line, opacity: 0.6 } },
    ...more,
  });
  // Room for the names at the left: reckoned, for without a browser nobody can measure a text.
  const leftOf = (names) => Math.min(220, 16 + 6.9 * Math.max(...names.map((name) => String(name).length)));
  const named = (look, names, of = (_value, at) => names[at]) => ({
    type: "category",
    inverse: true,
    data: names.map((_name, at) => at),
    axisTick: { show: false },
    axisLabel: { color: look.ink, interval: names.length > 60 ? "auto" : 0, fontSize: 11, width: 212, overflow: "truncate", formatter: of },
  });
  // Marks of a logarithmic axis: 1, 2 and 5 (or closer) of every power, never at the ragged ends; between values so near to each other that fewer
  // than four of these lie there, evenly spaced ones.
  const LEAST_MARKS = 4;
  const exact = (value) => Number(value.toPrecision(12));
  const evenly = (low, high, most) => {
    const power = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = power * [1, 2, 5, 10].find((times) => (high - low) / (power * times) <= most);
    const from = Math.ceil(exact(low / step));
    return Array.from({ length: Math.max(0, Math.floor(exact(high / step)) - from + 1) }, (_, at) => exact((from + at) * step));
  };
  const marksOf = (low, high) => {
    const steps = high / low < 3 ? [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9] : high / low < 30 ? [1, 1.5, 2, 3, 4, 5, 7] : high / low < 2000 ? [1, 2, 5] : [1];
    const values = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      values.push(...steps.map((step) => exact(step * 10 ** power)));
    }
    const inside = values.filter((value) => value >= low && value <= high);
    return inside.length >= LEAST_MARKS ? inside : evenly(low, high, 10);
  };
  // A logarithmic axis between any two values.
  const logarithmic = (look, low, high, more = {}, words = plain) => {
    const customValues = marksOf(low, high);
    return axis(look, {
      type: "log",
      min: low,
      max: high,
      splitLine: { show: false },
      ...more,
      axisTick: { lineStyle: { color: look.line }, customValues },
      axisLabel: { color: look.muted, hideOverlap: true, formatter: words, customValues },
    });
  };
  const wide = (text, look, echarts, px = 12) => echarts.format.getTextRect(String(text), `${px}px ${look.font}`).width;
  const cut = (name) => (name.length > 44 ? `${name.slice(0, 43)}…` : name);
  // A legend that lies still shows all it has, in as many rows as that takes.
  const ROW = 22;
  const legendRows = (names, look, echarts) => {
    if (!look || !look.still) return 1;
    let [rows, at] = [1, 0];
    for (const name of names) {
      const width = 14 + 5 + wide(cut(name), look, echarts) + 10;
      if (at > 0 && at + width > look.width - 30) [rows, at] = [rows + 1, 0];
      at += width;
    }
    return rows;
  };
  const below = (names, look, echarts) => ROW * (legendRows(names, look, echarts) - 1);
  const legend = (look, more) => ({
    type: look.still ? "plain" : "scroll",
    top: 0,
    left: look.still ? 10 : "center",
    right: look.still ? 10 : "auto",
    itemGap: 10,
    itemStyle: { decal: "none" },
    formatter: cut,
    textStyle: { color: look.ink, fontFamily: look.font },
    pageTextStyle: { color: look.muted },
    pageIconColor: look.ink,
    inactiveColor: look.line,
    itemWidth: 14,
    itemHeight: 10,
    ...more,
  });
  const row = (colour, name, value) =>
    `<div><span style="display:inline-block;width:10px;height:10px;margin-right:6px;background:${safe(colour)}"></span>${safe(name)}` +
    `<b style="float:right;margin-left:18px">${value}</b></div>`;
  const narrow = (look) => look.width < 560;
  // Dark or light, whichever stands out more (the relative luminance of WCAG 2).
  const onColour = (hex) => {
    const linear = (part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    const [red, green, blue] = [1, 3, 5].map((at) => linear(parseInt(hex.slice(at, at + 2), 16) / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.19 ? "#111111" : "#ffffff";
  };
  // A shape that custom series draw: a bar from one value to another in a row.
  const bar = (api, echarts, from, to, at, share) => {
    const start = api.coord([from, at]);
    const end = api.coord([to, at]);
    const height = api.size([0, 1])[1] * share;
    return echarts.graphic.clipRectByRect(
      { x: start[0], y: start[1] - height / 2, width: Math.max(end[0] - start[0], 1), height },
      { x: start[0] - 1e6, y: -1e6, width: 2e6, height: 2e6 },
    );
  };
  // Between two lines over the same x; drawn as one shape, for stacked areas do not work on logarithmic axes. Its data make the axes reach it.
  const band = (xs, low, high, colour, name) => ({
    type: "custom",
    name,
    silent: true,
    z: 1,
    itemStyle: { color: colour },
    data: xs.flatMap((x, at) => [low[at], high[at]].map((value) => [x, value])),
    tooltip: { show: false },
    renderItem: ({ dataIndex }, api) =>
      dataIndex > 0
        ? null
        : {
            type: "polygon",
            shape: {
              points: [...xs.map((x, at) => api.coord([x, high[at]])), ...xs.map((x, at) => api.coord([x, low[at]])).reverse()],
            },
            style: { fill: colour, opacity: 0.22 },
          },
    clip: true,
  });

  // --- the budget ----------------------------------------------------------------------------------------------------------------------

  const THIN = 4;
  // Layers stacked at every column; what is known to be wait is hatched; a budget is a tick.
  const budget = (data, look, { share = false } = {}, echarts) => {
    const columns = data.columns.map((column) => column.label);
    const rows = narrow(look) ? columns : data.columns.map((column) => `${column.label}: ${ms(column.value_ms)}`);
    const names = data.layers.map((layer) => layer.layer);
    const scale = (value, at) => (share ? (100 * value) / data.columns[at].value_ms : value);
    const unit = share ? "%" : "ms";
    const longest = share ? 100 : Math.max(...data.columns.map((column) => column.value_ms));
    const series = data.layers.flatMap((layer) => {
      const common = {
        name: layer.layer,
        type: "bar",
        stack: "layers",
        barWidth: "62%",
        emphasis: { focus: "series" },
        itemStyle: { color: layer.colour, borderColor: look.paper, borderWidth: 0 },
      };
      const rest = layer.total_ms.map((total, at) => scale(total - layer.wait_ms[at], at));
      const waits = layer.wait_ms.map(scale);
      // The name stands in the larger part of the two, or the figure where there is but one and no room for the name. An axis ends up to a fifth
      // beyond the longest bar.
      const pixels = (value) => (0.8 * (look.width - leftOf(rows) - 24) * value) / longest;
      const said = (mine, other, at) => {
        const room = pixels(mine[at]) - 6;
        const figure = other[at] === 0 ? number(mine[at]) : "";
        if (mine[at] < other[at]) return "";
        return room > wide(layer.layer, look, echarts, 11) ? layer.layer : room > wide(figure, look, echarts, 11) ? figure : "";
      };
      const labelled = (mine, other) =>
        mine.map((value, at) => {
          const text = said(mine, other, at);
          // A line takes its width from what it is drawn around: of a thin layer nothing would be left, and bars show what they add up from.
          return { value, itemStyle: { borderWidth: pixels(value) > THIN ? 0.5 : 0 }, label: { show: text !== "", formatter: () => text } };
        });
      const label = { color: onColour(layer.colour), fontSize: 11, fontFamily: look.font };
      const parts = [{ ...common, data: labelled(rest, waits), label }];
      if (layer.wait_ms.some((wait) => wait > 0)) {
        const hatched = { ...common.itemStyle, decal: { ...HATCH, color: "rgba(255,255,255,0.75)" } };
        const onHatch = { ...label, backgroundColor: layer.colour, padding: [1, 3] };
        parts.unshift({ ...common, data: labelled(waits, rest), label: onHatch, itemStyle: hatched });
      }
      return parts;
    });
    const limits = Object.entries(data.limits_ms || {}).filter(([label]) => columns.includes(label) && !share);
    if (limits.length) {
      series.push({
        name: "budget",
        type: "custom",
        z: 10,
        data: limits.map(([label, limit]) => [limit, columns.indexOf(label)]),
        renderItem: (_, api) => {
          const at = api.coord([api.value(0), api.value(1)]);
          const half = api.size([0, 1])[1] * 0.42;
          return {
            type: "line",
            shape: { x1: at[0], x2: at[0], y1: at[1] - half, y2: at[1] + half },
            style: { stroke: look.ink, lineWidth: 3 },
          };
        },
      });
    }
    return {
      ...ground(look),
      tooltip: {
        ...ground(look).tooltip,
        trigger: "axis",
        axisPointer: { type: "shadow" },
        formatter: (found) => {
          const at = found[0].dataIndex;
          const layers = [...data.layers].sort((a, b) => b.total_ms[at] - a.total_ms[at]);
          const shown = layers.slice(0, 14).filter((layer) => layer.total_ms[at] > 0);
          const told = shown.map((layer) => {
            const waited = layer.wait_ms[at] > 0 ? `, wait ${number(layer.wait_ms[at])}` : "";
            return row(layer.colour, layer.layer, `${ms(layer.total_ms[at])}${waited}`);
          });
          const limit = (data.limits_ms || {})[columns[at]];
          const promised = limit === undefined ? "" : `<div>budget ${ms(limit)}</div>`;
          return `<b>${safe(columns[at])}: ${ms(data.columns[at].value_ms)}</b>${told.join("")}${promised}`;
        },
      },
      legend: legend(look, { data: names }),
      grid: { left: leftOf(rows), right: 24, top: 46 + below(names, look, echarts), bottom: 44 },
      xAxis: axis(look, { type: "value", name: unit, nameGap: 26, max: share ? 100 : null }),
      yAxis: axis(look, { type: "category", data: columns, inverse: true, axisLabel: { color: look.ink, fontWeight: "bold", formatter: (_label, at) => rows[at] } }),
      series,
    };
  };

  // What the slow requests have that the usual ones have not.
  const tail = (data, look) => ({
    ...ground(look),
    tooltip: {
      ...ground(look).tooltip,
      formatter: ({ dataIndex }) => {
        const layer = data.layers[dataIndex];
        return `<b>${safe(layer.layer)}</b>${row(layer.colour, data.first, ms(layer.first_ms))}${row(layer.colour, data.last, ms(layer.last_ms))}`;
      },
    },
    grid: { left: leftOf(data.layers.map((layer) => layer.layer)), right: 110, top: 8, bottom: 44 },
    xAxis: axis(look, { type: "value", name: `ms more at ${data.last} than at ${data.first}`, nameGap: 26 }),
    yAxis: axis(look, named(look, data.layers.map((layer) => layer.layer))),
    series: [
      {
        type: "bar",
        barWidth: "66%",
        data: data.layers.map((layer) => ({ value: layer.more_ms, itemStyle: { color: layer.colour } })),
        label: {
          show: true,
          position: "right",
          color: look.ink,
          formatter: ({ value, dataIndex }) => {
            const { share } = data.layers[dataIndex];
            return share === null ? signed(value) : `${signed(value)} (${percent(share)})`;
          },
        },
      },
    ],
  });

  // --- single requests and tasks -------------------------------------------------------------------------------------------------------

  const stays = (data, { whole = false } = {}) =>
    whole || data.first_token_ms === null ? data.stays : data.stays.filter((stay) => stay.start_ms < data.first_token_ms);

  const waterfall = (request, look, state, echarts) => {
    const data = { ...request, stays: stays(request, state) };
    return waterfallOf(data, look, echarts);
  };
  const waterfallOf = (data, look, echarts) => ({
    ...ground(look),
    tooltip: {
      ...ground(look).tooltip,
      formatter: ({ dataIndex }) => {
        const stay = data.stays[dataIndex];
        const waited = stay.wait_ms > 0 ? `<div>of it wait ${ms(stay.wait_ms)}</div>` : "";
        return `<b>${safe(stay.layer)}: ${ms(stay.end_ms - stay.start_ms)}</b>${waited}<div>${ms(stay.start_ms)} → ${ms(stay.end_ms)}</div>`;
      },
    },
    grid: { left: leftOf(data.stays.map((stay) => stay.layer)), right: 70, top: 22, bottom: 44 },
    xAxis: axis(look, { type: "value", name: "ms since the intended start", nameGap: 26 }),
    yAxis: axis(look, named(look, data.stays.map((stay) => stay.layer))),
    series: [
      {
        type: "custom",
        encode: { x: [0, 1], y: 2 },
        data: data.stays.map((stay, at) => [stay.start_ms, stay.end_ms, at, stay.wait_ms]),
        renderItem: (params, api) => {
          const stay = data.stays[params.dataIndex];
          const whole = bar(api, echarts, stay.start_ms, stay.end_ms, params.dataIndex, 0.7);
          const waited = bar(api, echarts, stay.start_ms, stay.start_ms + stay.wait_ms, params.dataIndex, 0.7);
          const hatch = { fill: stay.colour, decal: { ...HATCH, color: "rgba(255,255,255,0.75)" } };
          return {
            type: "group",
            children: [
              { type: "rect", shape: whole, style: { fill: stay.colour } },
              ...(stay.wait_ms > 0 ? [{ type: "rect", shape: waited, style: hatch }] : []),
              {
                type: "text",
                style: {
                  text: number(stay.end_ms - stay.start_ms),
                  x: whole.x + whole.width + 4,
                  y: whole.y + whole.height / 2,
                  textVerticalAlign: "middle",
                  fontSize: 11,
                  fontFamily: look.font,
                  fill: look.muted,
                  stroke: look.paper,
                  lineWidth: 3,
                },
              },
            ],
          };
        },
        markLine:
          data.first_token_ms === null
            ? undefined
            : {
                silent: true,
                z: 1,
                symbol: "none",
                lineStyle: { color: look.ink, type: "dashed" },
                label: { formatter: "first token", color: look.ink, position: "start" },
                data: [{ xAxis: data.first_token_ms }],
              },
      },
    ],
  });

  // Every step of a task; those on the critical path stand out, for their sum is the task.
  const gantt = (data, look, _, echarts) => ({
    ...ground(look),
    tooltip: {
      ...ground(look).tooltip,
      formatter: ({ dataIndex }) => {
        const step = data.steps[dataIndex];
        const first = step.first_token_ms === null ? "" : `<div>first token after ${ms(step.first_token_ms - step.start_ms)}</div>`;
        const after = step.after.length ? `<div>after ${step.after.map((at) => safe(data.steps[at].name)).join(", ")}</div>` : "";
        const waited = step.on_path ? "on the critical path" : "beside the critical path: nobody waited for it";
        return `<b>${safe(step.name)}: ${ms(step.end_ms - step.start_ms)}</b>${first}${after}<div>${waited}</div>`;
      },
    },
    grid: { left: leftOf(data.steps.map((step) => step.name)), right: 24, top: 8, bottom: 44 },
    xAxis: axis(look, { type: "value", name: "ms since the task's start", nameGap: 26 }),
    yAxis: axis(look, named(look, data.steps.map((step) => step.name))),
    series: [
      {
        type: "custom",
        encode: { x: [0, 1], y: 2 },
        data: data.steps.map((step, at) => [step.start_ms, step.end_ms, at]),
        renderItem: (params, api) => {
          const step = data.steps[params.dataIndex];
          const at = params.dataIndex;
          const faint = step.on_path ? 1 : 0.45;
          const parts = step.is_call
            ? [
                [step.start_ms, step.first_token_ms === null ? step.end_ms : step.first_token_ms, data.colours.before],
                ...(step.first_token_ms === null ? [] : [[step.first_token_ms, step.end_ms, data.colours.after]]),
              ]
            : [[step.start_ms, step.end_ms, data.colours.tool]];
          const children = parts.map(([from, to, colour]) => ({
            type: "rect",
            shape: bar(api, echarts, from, to, at, 0.66),
            style: { fill: colour, opacity: faint },
          }));
          if (step.on_path) {
            const whole = bar(api, echarts, step.start_ms, step.end_ms, at, 0.66);
            children.push({ type: "rect", shape: whole, style: { fill: "none", stroke: look.ink, lineWidth: 1.5 } });
            const since = api.coord([step.since_ms, at]);
            if (step.since_ms < step.start_ms) {
              const shape = { x1: since[0], y1: since[1], x2: whole.x, y2: since[1] };
              children.push({ type: "line", shape, style: { stroke: look.ink, lineDash: [3, 3] } });
            }
          }
          return { type: "group", children };
        },
      },
    ],
  });

  // --- distributions -------------------------------------------------------------------------------------------------------------------

  const tails = (data, look, { metric = "ttft" } = {}) => {
    const told = data[metric] || Object.values(data)[0];
    const colours = [look.accent, look.second];
    const series = told.arms.flatMap((arm, number_of) => {
      // The largest value has nobody above it, which a logarithmic axis cannot show: the line goes level to it and ends.
      const seen = arm.share.map((share, at) => at).filter((at) => arm.share[at] > 0);
      const ends = arm.value_ms[arm.value_ms.length - 1];
      const pick = (values) => [...seen, seen[seen.length - 1]].map((at) => values[at]);
      const floor = 0.5 / arm.n;
      const xs = [...seen.map((at) => arm.value_ms[at]), ends];
      const [shares, lows, highs] = [pick(arm.share), pick(arm.low).map((low) => (low === null ? null : Math.max(low, floor))), pick(arm.high)];
      // Where there is a band, stretch by stretch.
      const stretches = xs.reduce((found, _x, at) => {
        if (lows[at] === null || !seen.length) return found;
        if (at && lows[at - 1] !== null && found.length) found[found.length - 1].push(at);
        else found.push([at]);
        return found;
      }, []);
      return [
        {
          type: "line",
          name: arm.name,
          showSymbol: false,
          symbolSize: 6,
          lineStyle: { color: colours[number_of % 2], width: 2, type: number_of ? "dashed" : "solid" },
          itemStyle: { color: colours[number_of % 2] },
          data: seen.length ? xs.map((x, at) => [x, shares[at], lows[at], highs[at], x === ends]) : [],
        },
        ...stretches.map((of) => band(...[xs, lows, highs].map((values) => of.map((at) => values[at])), colours[number_of % 2], arm.name)),
      ];
    });
    const most = Math.max(...told.arms.map((arm) => arm.n), 2);
    const lowest = Math.min(...told.arms.map((arm) => arm.value_ms[0]));
    const highest = Math.max(...told.arms.map((arm) => arm.value_ms[arm.value_ms.length - 1]), lowest * 1.01);
    return {
      ...ground(look),
      tooltip: {
        ...ground(look).tooltip,
        trigger: "axis",
        axisPointer: { type: "line" },
        formatter: (found) =>
          found
            .filter((one) => one.seriesType === "line")
            .map(({ seriesName, color, value }) =>
              value[4]
                ? row(color, seriesName, `the longest: ${ms(value[0])}`)
                : row(color, seriesName, `${percent(value[1])} above ${ms(value[0])}`) +
                  (value[2] === null ? "" : `<div>95 % band ${percent(value[2])} … ${percent(value[3])}</div>`),
            )
            .join(""),
      },
      legend: told.arms.length > 1 ? legend(look, { data: told.arms.map((arm) => arm.name) }) : undefined,
      grid: { left: 64, right: 24, top: told.arms.length > 1 ? 34 : 14, bottom: 48 },
      // A hair wider than the data: a point on the very edge is outside of a logarithmic axis as often as not, and tells nothing when pointed at.
      xAxis: logarithmic(look, 0.9999 * lowest, 1.0001 * highest, { name: `${told.name}, ms`, nameGap: 28 }),
      yAxis: logarithmic(look, 0.5 / most, 1, { splitLine: { show: true, lineStyle: { color: look.line, opacity: 0.6 } } }, (value) => `${plain(100 * value)} %`),
      series,
    };
  };

  // TTFT over the run as a heat map, and under it how late the generator was: a wave in the lower one explains one in the upper.
  const heat = (data, look, _, echarts) => {
    const middle = data.late_ms.map((_value, at) => (data.edges_s[at] + data.edges_s[at + 1]) / 2);
    const most = Math.max(...data.cells.map((cell) => cell[2]), 0);
    // Of failures alone there is only the lower half.
    const counted = data.cells.length > 0;
    const first = data.edges_s[0];
    const last = data.edges_s[data.edges_s.length - 1];
    const cut =
      data.warmup_end_s === null
        ? undefined
        : {
            silent: true,
            itemStyle: { color: look.muted, opacity: 0.18 },
            label: { color: look.muted, position: "insideTop", formatter: "warm-up" },
            data: [[{ xAxis: first }, { xAxis: data.warmup_end_s }]],
          };
    const failures = data.failed.some((count) => count > 0);
    // At the left edge, not where the warm-up ends.
    const axisLine = { show: true, onZero: false, lineStyle: { color: look.line } };
    // Both panels begin at the same place, whatever stands beside their axes: their times are read across.
    const [shortest, longest] = counted ? [data.edges_ms[0], data.edges_ms[data.edges_ms.length - 1]] : [1, 10];
    const highest = Math.max(...[...data.late_ms, ...(failures ? data.failed : [])].map((value) => value ?? 0)) || 1;
    const step = evenly(0, highest, 2)[1];
    const top = step * Math.ceil(exact(highest / step));
    const beside = [...marksOf(shortest, longest), ...evenly(0, top, 4)].map((value) => wide(plain(value), look, echarts));
    const nameGap = Math.max(48, Math.ceil(Math.max(...beside)) + 20);
    const panel = { left: nameGap + 18, right: 24, outerBoundsMode: "none" };
    // Bars at its ends do not make the lower axis longer than the upper one.
    const time = (grid, more) => axis(look, { type: "value", gridIndex: grid, min: first, max: last, containShape: false, ...more });
    return {
      ...ground(look),
      grid: [
        { ...panel, top: 42, height: counted ? "52%" : 0 },
        { ...panel, top: counted ? "74%" : 14, bottom: 44 },
      ],
      visualMap: {
        show: counted,
        type: "continuous",
        min: 0,
        max: most,
        dimension: 2,
        seriesIndex: 0,
        orient: "horizontal",
        left: "center",
        top: 0,
        itemWidth: 12,
        itemHeight: narrow(look) ? 100 : 180,
        text: [`${most} request${most === 1 ? "" : "s"}`, "0"],
        textStyle: { color: look.muted },
        inRange: { color: look.heat },
      },
      xAxis: [
        time(0, { axisLabel: { show: false }, show: counted }),
        time(1, { name: "s since the measured load began", nameGap: 28, axisLabel: { color: look.muted, hideOverlap: true, showMinLabel: false, showMaxLabel: false, formatter: plain } }),
      ],
      yAxis: [
        counted
          ? logarithmic(look, shortest, longest, { name: "TTFT, ms", nameGap, axisLine })
          : { type: "value", show: false },
        axis(look, {
          type: "value",
          gridIndex: 1,
          axisLine,
          name: failures ? "late ms, failed" : "late, ms",
          nameGap,
          min: 0,
          max: top,
          interval: step,
          axisLabel: { color: look.muted, formatter: plain },
        }),
      ],
      series: [
        {
          type: "custom",
          data: data.cells.map(([i, j, count]) => [middle[i], data.edges_ms[j], count, i, j]),
          encode: { x: 0, y: 1 },
          clip: true,
          tooltip: {
            formatter: ({ value: [, , count, i, j] }) =>
              `<b>${count} request${count === 1 ? "" : "s"}</b><div>TTFT ${ms(data.edges_ms[j])} … ${ms(data.edges_ms[j + 1])}</div>` +
              `<div>${number(data.edges_s[i])} … ${number(data.edges_s[i + 1])} s</div>`,
          },
          renderItem: (params, api) => {
            const [, , , i, j] = [0, 1, 2, 3, 4].map((at) => api.value(at));
            const low = api.coord([data.edges_s[i], data.edges_ms[j]]);
            const high = api.coord([data.edges_s[i + 1], data.edges_ms[j + 1]]);
            const shape = { x: low[0], y: high[1], width: high[0] - low[0], height: low[1] - high[1] };
            return { type: "rect", shape, style: { fill: api.visual("color") } };
          },
          markArea: counted ? cut : undefined,
        },
        {
          type: "line",
          xAxisIndex: 1,
          yAxisIndex: 1,
          // A column in which nothing was due has no latest: what stands alone between such is a dot.
          showSymbol: data.late_ms.includes(null),
          symbol: "circle",
          symbolSize: 4,
          name: "latest send",
          data: middle.map((at, index) => [at, data.late_ms[index]]),
          lineStyle: { color: look.accent, width: 1.5 },
          itemStyle: { color: look.accent },
          tooltip: { formatter: ({ value }) => `sent up to ${ms(value[1])} late` },
          markArea: cut && { ...cut, label: { show: false } },
        },
        ...(failures
          ? [
              {
                type: "bar",
                xAxisIndex: 1,
                yAxisIndex: 1,
                name: "failed",
                // Those of the warm-up count nowhere.
                data: middle.map((at, index) => ({ value: [at, data.failed[index]], itemStyle: { color: at < 0 ? look.muted : look.bad } })),
                tooltip: { formatter: ({ value }) => `${value[1]} failed` },
              },
            ]
          : []),
      ],
    };
  };

  // --- sweeps --------------------------------------------------------------------------------------------------------------------------

  // Labels of upright lines, in rows: none covers another, nor a line of another that reaches up through its row. One that would leave the picture
  // stands before its line.
  const placed = (marks, look) => {
    const sorted = [...marks].sort((a, b) => a.x - b.x);
    for (const mark of sorted.reverse()) {
      const to = mark.x + mark.width + 8;
      mark.ends = to > look.width || sorted.some((other) => other.ends && other.x > mark.x && other.x < to);
      mark.span = mark.ends ? [mark.x - mark.width - 8, mark.x] : [mark.x, to];
    }
    const done = [];
    for (const mark of [...sorted.filter((one) => !one.ends), ...sorted.filter((one) => one.ends).reverse()]) {
      const meets = done.filter((other) => other.span[0] < mark.span[1] && mark.span[0] < other.span[1]);
      done.push({ ...mark, row: Math.max(0, ...meets.map((other) => other.row + 1)) });
    }
    return done;
  };

  // Contributions over log k: what shrinks, what stays, and where the one crosses the other.
  const [TOTAL, NAIVE] = ["total", "naive line"];
  const ICONS = { [TOTAL]: "path://M0 4h24v3h-24z", [NAIVE]: "path://M0 4h6v3h-6zM9 4h6v3h-6zM18 4h6v3h-6z" };
  const sweepNames = (data, share) => [...data.layers.map((layer) => layer.layer), ...(share ? [] : [TOTAL, NAIVE])];
  const sweep = (data, look, { share = false } = {}, echarts) => {
    const sums = data.ks.map((_k, index) => data.layers.reduce((sum, layer) => sum + layer.total_ms[index], 0));
    const heights = data.layers.map((layer) => layer.total_ms.map((total, index) => (share ? (100 * total) / sums[index] : total)));
    const at = (values) => data.ks.map((k, index) => [k, values[index]]);
    const areas = data.layers.map((layer, number_of) => ({
      type: "line",
      name: layer.layer,
      stack: "layers",
      showSymbol: false,
      lineStyle: { width: 0.6, color: look.paper },
      itemStyle: { color: layer.colour },
      areaStyle: { color: layer.colour, opacity: 1 },
      emphasis: { focus: "series" },
      data: at(heights[number_of]),
    }));
    const left = 70;
    const right = 30;
    const [first, last] = [data.ks[0], data.ks[data.ks.length - 1]];
    const marks = placed(
      data.crossings
        .filter((one) => one.k !== null)
        .map((one) => {
          const text = `${one.told} at ${Number(one.k.toPrecision(3))}`;
          const x = left + ((look.width - left - right) * Math.log(one.k / first)) / Math.log(last / first);
          return { k: one.k, text, x, width: wide(text, look, echarts) };
        }),
      look,
    );
    const markRows = Math.max(0, ...marks.map((one) => one.row + 1));
    const crossings = {
      type: "custom",
      silent: true,
      z: 6,
      tooltip: { show: false },
      data: marks.map((one) => [one.k, 0]),
      renderItem: (params, api) => {
        const mark = marks[params.dataIndex];
        const [x] = api.coord([mark.k, 0]);
        const { y, height } = params.coordSys;
        const style = { stroke: look.ink, lineWidth: 1.5, lineDash: [1.5, 2.5] };
        const said = { text: mark.text, fill: look.ink, fontSize: 12, fontFamily: look.font, textAlign: mark.ends ? "right" : "left", textVerticalAlign: "bottom" };
        return {
          type: "group",
          children: [
            { type: "line", shape: { x1: x, x2: x, y1: y - 4 - 14 * mark.row, y2: y + height }, style },
            { type: "text", style: { ...said, x: x + (mark.ends ? -3 : 3), y: y - 2 - 14 * mark.row } },
          ],
        };
      },
    };
    // A name in every area that is high enough for one: where it is highest, to the right where that is nearly as high.
    const names = {
      type: "custom",
      silent: true,
      z: 7,
      tooltip: { show: false },
      data: data.layers.map((_layer, index) => [first, index]),
      renderItem: (params, api) => {
        const layer = data.layers[params.dataIndex];
        const mine = heights[params.dataIndex];
        const most = Math.max(...mine);
        const where = mine[data.ks.length - 1] > 0.8 * most ? data.ks.length - 1 : mine.indexOf(most);
        const under = heights.slice(0, params.dataIndex).reduce((sum, one) => sum + one[where], 0);
        const [x, low] = api.coord([data.ks[where], under]);
        const [, high] = api.coord([data.ks[where], under + mine[where]]);
        if (low - high < 16) return null;
        const [textAlign, aside] = where === 0 ? ["left", 8] : where === data.ks.length - 1 ? ["right", -8] : ["center", 0];
        const style = { fill: onColour(layer.colour), stroke: layer.colour, lineWidth: 4, fontSize: 12, fontFamily: look.font };
        return { type: "text", style: { ...style, text: layer.layer, x: x + aside, y: (low + high) / 2, textAlign, textVerticalAlign: "middle" } };
      },
    };
    const total = {
      type: "line",
      name: TOTAL,
      z: 5,
      symbol: "circle",
      symbolSize: 6,
      lineStyle: { color: look.ink, width: 2 },
      itemStyle: { color: look.ink },
      data: at(data.value_ms),
    };
    const naive = {
      type: "line",
      name: NAIVE,
      z: 4,
      showSymbol: false,
      lineStyle: { color: look.bad, type: "dashed", width: 2 },
      itemStyle: { color: look.bad },
      data: at(data.naive_ms),
    };
    const bounded = data.low_ms.every((low, index) => low !== null && data.high_ms[index] !== null);
    return {
      ...ground(look),
      tooltip: {
        ...ground(look).tooltip,
        trigger: "axis",
        formatter: (found) => {
          const index = data.ks.indexOf(found[0].axisValue);
          const layers = [...data.layers].sort((a, b) => b.total_ms[index] - a.total_ms[index]).slice(0, 12);
          const told = layers.filter((layer) => layer.total_ms[index] > 0).map((layer) => row(layer.colour, layer.layer, ms(layer.total_ms[index])));
          const around = bounded ? ` (${number(data.low_ms[index])} … ${number(data.high_ms[index])})` : "";
          const without = data.naive_ms[index] === null ? "" : `<div>naive line ${ms(data.naive_ms[index])}</div>`;
          return `<b>${safe(data.axis)} × ${plain(data.ks[index])}: ${ms(data.value_ms[index])}${around}</b>${told.join("")}${without}`;
        },
      },
      legend: legend(look, { data: sweepNames(data, share).map((name, index) => ({ name, icon: index < data.layers.length ? "roundRect" : ICONS[name] })) }),
      grid: { left, right, top: 36 + 14 * markRows + below(sweepNames(data, share), look, echarts), bottom: 48 },
      xAxis: axis(look, {
        type: "log",
        logBase: 2,
        name: `${data.axis}${data.faster.length > 1 ? ` (${data.faster.join(" + ")})` : ""}: times faster`,
        nameGap: 28,
        min: data.ks[0],
        max: data.ks[data.ks.length - 1],
        axisLabel: { color: look.muted, formatter: plain },
        splitLine: { show: false },
      }),
      yAxis: axis(look, { type: "value", name: `${data.name} ${data.label}, ${share ? "%" : "ms"}`, nameGap: 44, max: share ? 100 : null }),
      series: share ? [...areas, crossings, names] : [...areas, ...(bounded ? [band(data.ks, data.low_ms, data.high_ms, look.ink, TOTAL)] : []), naive, total, crossings, names],
    };
  };

  // What load does: latency, and how much of it was still good.
  const load = (data, look) => {
    const colours = [look.accent, look.second, look.good, look.bad];
    const symbols = ["circle", "triangle", "rect", "diamond"];
    const lines = data.lines.flatMap((line, index) => {
      const colour = colours[index % colours.length];
      const bounded = line.low_ms.every((low, at) => low !== null && line.high_ms[at] !== null);
      return [
        {
          type: "line",
          name: line.name,
          symbol: symbols[index % symbols.length],
          symbolSize: 8,
          lineStyle: { color: colour, width: 2, type: line.is_tail ? "dashed" : "solid" },
          itemStyle: { color: colour },
          data: data.xs.map((x, at) => [x, line.value_ms[at]]),
          tooltip: { valueFormatter: ms },
        },
        ...(bounded ? [band(data.xs, line.low_ms, line.high_ms, colour, line.name)] : []),
      ];
    });
    const good = data.good_share.some((share) => share !== null);
    if (good) {
      lines.push({
        type: "line",
        name: "good",
        yAxisIndex: 1,
        symbol: "emptyCircle",
        lineStyle: { color: look.muted, type: "dotted" },
        itemStyle: { color: look.muted },
        data: data.xs.map((x, at) => [x, data.good_share[at] === null ? null : 100 * data.good_share[at]]),
        tooltip: { valueFormatter: (value) => `${number(value)} %` },
      });
    }
    return {
      ...ground(look),
      tooltip: { ...ground(look).tooltip, trigger: "axis" },
      legend: legend(look, { data: [...data.lines.map((line) => line.name), ...(good ? ["good"] : [])] }),
      grid: { left: 70, right: good ? 60 : 24, top: 40, bottom: 48 },
      xAxis: axis(look, { type: "value", name: data.name, nameGap: 28, min: "dataMin", max: "dataMax", axisLabel: { color: look.muted, formatter: plain } }),
      yAxis: [
        axis(look, { type: "value", name: "ms", nameGap: 44 }),
        ...(good ? [axis(look, { type: "value", name: "good, %", min: 0, max: 100, nameGap: 34, splitLine: { show: false } })] : []),
      ],
      series: lines,
    };
  };

  // --- comparisons ---------------------------------------------------------------------------------------------------------------------

  // B less A with its interval, row by row; the shaded part is what nobody minds.
  const forest = (data, look, _, echarts) => {
    const colour = (verdict) => ({ better: look.good, worse: look.bad })[verdict] || look.muted;
    return {
      ...ground(look),
      tooltip: {
        ...ground(look).tooltip,
        formatter: ({ dataIndex }) => {
          const one = data.rows[dataIndex];
          const around = one.low_ms === null ? safe(one.why) : `95 % ${signed(one.low_ms)} … ${signed(one.high_ms)}`;
          return `<b>${safe(one.name)}: ${safe(one.verdict)}</b><div>${ms(one.a_ms)} → ${ms(one.b_ms)}: ${signed(one.change_ms)}</div><div>${around}</div>`;
        },
      },
      grid: { left: leftOf(data.rows.map((one) => one.name)), right: 30, top: 8, bottom: 48 },
      xAxis: axis(look, { type: "value", name: "B less A, ms", nameGap: 28 }),
      yAxis: axis(look, named(look, data.rows.map((one) => one.name))),
      series: [
        {
          type: "custom",
          encode: { x: [0, 1, 2], y: 3 },
          data: data.rows.map((one, at) => [one.low_ms ?? one.change_ms, one.high_ms ?? one.change_ms, one.change_ms, at, one.margin_ms]),
          renderItem: (params, api) => {
            const one = data.rows[params.dataIndex];
            const at = params.dataIndex;
            const centre = api.coord([one.change_ms, at]);
            const children = [];
            if (one.margin_ms > 0) {
              const shape = bar(api, echarts, -one.margin_ms, one.margin_ms, at, 0.9);
              children.push({ type: "rect", shape, style: { fill: look.muted, opacity: 0.16 } });
            }
            if (one.low_ms !== null) {
              const [from, to] = [api.coord([one.low_ms, at]), api.coord([one.high_ms, at])];
              const shape = { x1: from[0], y1: from[1], x2: to[0], y2: to[1] };
              children.push({ type: "line", shape, style: { stroke: colour(one.verdict), lineWidth: 3 } });
            }
            const mark = { cx: centre[0], cy: centre[1], r: 5 };
            // Hollow: nothing can be said of it.
            const isKnown = one.verdict !== "unknown";
            const style = { fill: isKnown ? colour(one.verdict) : look.paper, stroke: isKnown ? look.paper : colour(one.verdict), lineWidth: isKnown ? 1 : 2 };
            children.push({ type: "circle", shape: mark, style });
            return { type: "group", children };
          },
          markLine: {
            silent: true,
            symbol: "none",
            label: { show: false },
            lineStyle: { color: look.ink, type: "solid", width: 1 },
            data: [{ xAxis: 0 }],
          },
        },
      ],
    };
  };

  const rowsHigh = (rows, each, around) => Math.max(120, rows * each + around);
  // How high a picture is, by its data; the width is the page's.
  const HEIGHTS = {
    budget: (data, _, look, echarts) =>
      rowsHigh(data.columns.length, 58, 100) + below(data.layers.map((layer) => layer.layer), look, echarts),
    tail: (data) => rowsHigh(data.layers.length, 24, 60),
    waterfall: (data, state) => rowsHigh(stays(data, state).length, 20, 70),
    gantt: (data) => rowsHigh(data.steps.length, data.steps.length > 60 ? 11 : 18, 60),
    tails: () => 340,
    heat: () => 420,
    sweep: (data, { share }, look, echarts) => 420 + below(sweepNames(data, share), look, echarts),
    load: () => 340,
    forest: (data) => rowsHigh(data.rows.length, 22, 60),
  };

  const DRAWN = { budget, tail, waterfall, gantt, tails, heat, sweep, load, forest };
  const option = (kind, data, look, state, echarts) => DRAWN[kind](data, look, state || {}, echarts);
  const height = (kind, data, state, look, echarts) => HEIGHTS[kind](data, state || {}, look, echarts);
  return { option, height };
})();
