(() => {
  "use strict";
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = read("data-charts");
  const palette = read("data-palette");
  const config = {
    responsive: true, displaylogo: false, displayModeBar: "hover", scrollZoom: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendDataToCloud"],
  };

  const inherit = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Figures are drawn in the light palette; in dark mode each of its colours has a counterpart.
  const recoloured = (value) => {
    if (typeof value === "string") return dark.matches ? palette[value] ?? value : value;
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(recoloured);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recoloured(inner)]));
  };

  const theme = (narrow) => {
    const text = inherit("--text"), line = inherit("--line"), ground = inherit("--ground");
    const axis = {
      gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, automargin: true,
      showline: true, zeroline: false, title: { standoff: 10 },
    };
    return {
      layout: {
        paper_bgcolor: ground, plot_bgcolor: ground,
        font: { color: text, family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13 },
        xaxis: axis, yaxis: axis, hovermode: "closest", hoverdistance: -1,
        hoverlabel: { bgcolor: inherit("--raised"), bordercolor: line, font: { color: text }, align: "left" },
        legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
        margin: narrow ? { l: 48, r: 12, t: 24, b: 48 } : { l: 64, r: 24, t: 32, b: 56 },
        annotationdefaults: { font: { color: text } },
        modebar: { bgcolor: "rgba(0,0,0,0)", color: inherit("--soft"), activecolor: text },
      },
    };
  };

  // On a narrow screen, ticks whose labels would run into each other lose them.
  const spaced = (axis, width) => {
    if (!axis || !axis.ticktext || !axis.range || axis.type !== "log") return axis;
    const perDecade = (width - 70) / (axis.range[1] - axis.range[0]);
    let last = -Infinity;
    const ticktext = axis.ticktext.map((text, n) => {
      const at = Math.log10(axis.tickvals[n]) * perDecade;
      if (at - last < 7 * text.length + 6) return "";
      last = at;
      return text;
    });
    return { ...axis, ticktext, tickangle: 0 };
  };

  const draw = (div) => {
    const figure = recoloured(charts[div.id]);
    const layout = { ...figure.layout, template: theme(div.clientWidth < 520), autosize: true };
    if (div.clientWidth < 520) layout.xaxis = spaced(layout.xaxis, div.clientWidth);
    return Plotly.react(div, figure.data, layout, config).then(() => { div.dataset.drawn = "yes"; });
  };

  // One chart a turn: the page answers to clicks while they are drawn.
  const drawAll = () => {
    const waiting = [...document.querySelectorAll(".chart")];
    const next = () => {
      const div = waiting.shift();
      if (div === undefined) { document.documentElement.dataset.drawn = "yes"; return; }
      draw(div).finally(() => setTimeout(next, 0));
    };
    next();
  };

  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const details = target && target.closest("details");
    if (details) { details.open = true; details.scrollIntoView(); }
  };

  dark.addEventListener("change", drawAll);
  window.addEventListener("hashchange", open);
  drawAll();
  open();
})();
