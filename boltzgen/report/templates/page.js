// Ball-and-stick molecules that turn under a pointer or the arrow keys, and folded parts opened for print.
"use strict";
(function () {
  const source = document.getElementById("structures");
  const canvases = Array.from(document.querySelectorAll("canvas.molecule"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  let redraw = function () {};

  addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (part) {
      part.open = true;
      part.dataset.opened = "";
    });
    printing = true;
    redraw();
  });
  addEventListener("afterprint", function () {
    document.querySelectorAll("details[data-opened]").forEach(function (part) {
      part.open = false;
      delete part.dataset.opened;
    });
    printing = false;
    redraw();
  });
  if (!source || !canvases.length) return;

  // Colours of elements by convention, from the palette of Okabe and Ito; radii in Angstrom.
  const ELEMENTS = {
    H: ["hydrogen", [236, 238, 241], 0.25], C: ["carbon", [110, 116, 126], 0.38],
    N: ["nitrogen", [0, 114, 178], 0.38], O: ["oxygen", [213, 94, 0], 0.37],
    S: ["sulfur", [240, 228, 66], 0.45], P: ["phosphorus", [230, 159, 0], 0.45],
    F: ["fluorine", [0, 158, 115], 0.35], Cl: ["chlorine", [0, 158, 115], 0.42],
    Br: ["bromine", [0, 130, 95], 0.46], I: ["iodine", [0, 105, 78], 0.5],
  };
  const OTHER = ["other", [204, 121, 167], 0.42];
  const data = JSON.parse(source.textContent);
  const kinds = data.elements.map(function (symbol) { return ELEMENTS[symbol] || OTHER; });
  const molecules = data.states.map(function (state) { return state.x; });
  // Atoms without bonds (clusters) are drawn larger, so that they read as a body.
  const swell = data.bonds.length ? 1 : 2.2;
  const reach = 0.9 + Math.max.apply(null, molecules.map(function (x) {
    return Math.max.apply(null, x.map(function (p) { return Math.hypot(p[0], p[1], p[2]); }));
  }));
  const start = turn(0, -0.35);
  let view = start;
  let zoom = 1;

  function dot(a, b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
  function between(a, b, t) { return a.map(function (v, k) { return v + t * (b[k] - v); }); }
  function times(a, b) {
    return a.map(function (row) {
      return [0, 1, 2].map(function (k) { return row[0] * b[0][k] + row[1] * b[1][k] + row[2] * b[2][k]; });
    });
  }
  function turn(across, down) {
    const c = Math.cos(across), s = Math.sin(across), d = Math.cos(down), e = Math.sin(down);
    return times([[1, 0, 0], [0, d, -e], [0, e, d]], [[c, 0, s], [0, 1, 0], [-s, 0, c]]);
  }

  function colour(rgb, ground, depth, gain) {
    const fog = 0.45 * Math.min(Math.max(0.5 - depth / (2 * reach), 0), 1);
    const mixed = rgb.map(function (c, k) {
      const lit = gain > 1 ? c + (255 - c) * (gain - 1) : c * gain;
      return Math.round(lit + (ground[k] - lit) * fog);
    });
    return "rgb(" + mixed.join(",") + ")";
  }

  function draw(canvas) {
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    const night = dark.matches && !printing;
    const ground = night ? [27, 30, 36] : [255, 255, 255];
    const edge = night ? [205, 210, 218] : [52, 56, 64];
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const scale = zoom * 0.5 * Math.min(width, 1.4 * height) / reach;
    const eye = 6 * reach;
    function seen(q) {
      const near = eye / (eye - q[2]) * scale;
      return { x: width / 2 + near * q[0], y: height / 2 - near * q[1], z: q[2], near: near, at: q };
    }
    const points = molecules[Number(canvas.dataset.state)].map(function (p) {
      return seen(view.map(function (row) { return dot(row, p); }));
    });
    const items = points.map(function (p, k) {
      return { z: p.z, paint: function () { ball(pen, p, kinds[k], data.elements[k], ground, edge); } };
    });
    data.bonds.forEach(function (pair) {
      const a = points[pair[0]], b = points[pair[1]];
      const m = seen(between(a.at, b.at, 0.5));
      const length = Math.hypot(a.at[0] - b.at[0], a.at[1] - b.at[1], a.at[2] - b.at[2]) || 1;
      [[a, pair[0]], [b, pair[1]]].forEach(function (half) {
        const kind = kinds[half[1]];
        const end = seen(between(half[0].at, m.at, Math.min(1.8 * swell * kind[2] / length, 1)));
        const z = (end.z + m.z) / 2;
        items.push({ z: z, paint: function () { stick(pen, end, m, kind, z, ground, edge); } });
      });
    });
    items.sort(function (a, b) { return a.z - b.z; });
    items.forEach(function (item) { item.paint(); });
  }

  function ball(pen, p, kind, symbol, ground, edge) {
    const r = kind[2] * swell * p.near;
    const light = pen.createRadialGradient(p.x - 0.35 * r, p.y - 0.4 * r, 0.1 * r, p.x, p.y, r);
    light.addColorStop(0, colour(kind[1], ground, p.z, 1.55));
    light.addColorStop(0.45, colour(kind[1], ground, p.z, 1));
    light.addColorStop(1, colour(kind[1], ground, p.z, 0.72));
    pen.beginPath();
    pen.arc(p.x, p.y, r, 0, 2 * Math.PI);
    pen.fillStyle = light;
    pen.fill();
    pen.lineWidth = 1;
    pen.strokeStyle = colour(edge, ground, p.z, 1);
    pen.stroke();
    if (symbol === "H" || symbol === "C" || !(symbol in ELEMENTS) || r < 7) return;
    pen.fillStyle = symbol === "S" || symbol === "P" ? "#1c1e23" : "#ffffff";
    pen.font = "600 " + Math.round(1.05 * r) + "px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(symbol, p.x, p.y + 0.06 * r);
  }

  function stick(pen, a, m, kind, z, ground, edge) {
    [[0.26, colour(edge, ground, z, 1)], [0.2, colour(kind[1], ground, z, 0.92)]].forEach(function (layer) {
      pen.beginPath();
      pen.moveTo(a.x, a.y);
      pen.lineTo(m.x, m.y);
      pen.lineWidth = layer[0] * m.near;
      pen.lineCap = "butt";
      pen.strokeStyle = layer[1];
      pen.stroke();
    });
  }

  redraw = function () { canvases.forEach(draw); };
  let waiting = false;
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(function () { waiting = false; redraw(); });
  }
  function rotate(across, down) { view = times(turn(across, down), view); soon(); }
  function magnify(factor) { zoom = Math.min(Math.max(zoom * factor, 0.4), 4); soon(); }

  const KEYS = {
    ArrowLeft: function () { rotate(-0.15, 0); }, ArrowRight: function () { rotate(0.15, 0); },
    ArrowUp: function () { rotate(0, -0.15); }, ArrowDown: function () { rotate(0, 0.15); },
    "+": function () { magnify(1.15); }, "=": function () { magnify(1.15); },
    "-": function () { magnify(1 / 1.15); }, "0": function () { view = start; zoom = 1; soon(); },
  };
  canvases.forEach(function (canvas) {
    let last = null;
    canvas.addEventListener("pointerdown", function (event) {
      canvas.setPointerCapture(event.pointerId);
      last = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", function (event) {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      rotate(0.01 * (event.clientX - last[0]), 0.01 * (event.clientY - last[1]));
      last = [event.clientX, event.clientY];
    });
    canvas.addEventListener("keydown", function (event) {
      if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      KEYS[event.key]();
    });
  });

  const key = document.getElementById("elements");
  Array.from(new Set(data.elements)).forEach(function (symbol) {
    const kind = ELEMENTS[symbol] || OTHER;
    const entry = document.createElement("li"), dot = document.createElement("span");
    dot.style.background = "rgb(" + kind[1].join(",") + ")";
    entry.append(dot, symbol in ELEMENTS ? kind[0] : symbol === "X" ? "particle" : symbol);
    key.append(entry);
  });

  dark.addEventListener("change", soon);
  new ResizeObserver(soon).observe(canvases[0]);
  addEventListener("resize", soon);
  redraw();
})();
