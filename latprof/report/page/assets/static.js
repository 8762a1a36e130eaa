// The pictures without a browser: figures.js in a bare engine, from data to SVG.
"use strict";

const STATIC = (() => {
  let widths = { em: 1, normal: {}, bold: {} };

  // What a browser would measure; a character that the font has not got is as wide as it is high.
  const measureText = (text, font) => {
    const size = Number(/([\d.]+)px/.exec(font || "12px")[1]);
    const known = /bold|[6-9]00/.test(font) ? widths.bold : widths.normal;
    let sum = 0;
    for (const character of String(text)) sum += known[character] === undefined ? widths.em : known[character];
    return { width: (sum * size) / widths.em };
  };

  const start = (told) => {
    widths = told;
    echarts.setPlatformAPI({ measureText });
  };

  // From JSON to JSON. Only what lies still: nothing points, so nothing lights up or answers.
  const draw = (text) => {
    const { kind, data, look, state } = JSON.parse(text);
    const height = FIGURES.height(kind, data, state, look, echarts);
    const chart = echarts.init(null, null, { renderer: "svg", ssr: true, width: look.width, height });
    const option = FIGURES.option(kind, data, look, state, echarts);
    chart.setOption({ ...option, tooltip: undefined, series: option.series.map((one) => ({ ...one, silent: true, emphasis: { disabled: true } })) });
    const svg = chart.renderToSVGString();
    chart.dispose();
    return JSON.stringify({ svg, height });
  };

  return { start, draw };
})();
