"""Which methods trade PSNR for SSIM?"""

import streamlit as st

from bench import charts
from dashboard import state, theme
from dashboard.state import Choice


def show(choice: Choice) -> None:
    """Draw PSNR against SSIM and name the Pareto front."""
    st.title("What does PSNR cost in SSIM?")
    both = choice.run.columns["psnr"], choice.run.columns["ssim"]
    psnr, ssim = map(choice.column, both)
    methods = list(theme.colours(choice.run))
    chosen = state.several("Methods", "methods", methods, default=methods)
    cells = choice.within_reach(*both)
    cells = cells[cells.method.isin(chosen)].dropna(subset=[psnr, ssim])
    if cells.empty:
        st.info("None of these methods is scored with this few training images yet.")
        return
    front = charts.pareto(cells, psnr, ssim)
    names = [theme.markdown(label) for label in front.label]
    st.markdown(f"#### {verdict(names)}")
    chart = charts.tradeoff(cells, front, psnr, ssim, theme.colours(choice.run))
    st.plotly_chart(chart, config=charts.CONFIG, key="tradeoff")
    st.caption(
        "Up and right is better. In the shaded region the front is at least as good in both. "
        f"{charts.LEGEND}; a larger marker means more training images. "
        "Bars: 95 % interval over subjects."
    )


def verdict(names: list[str]) -> str:
    """Put the front in words."""
    if len(names) == 1:
        return f"No trade-off: {names[0]} has both the best PSNR and the best SSIM."
    return f"On the Pareto front, from best PSNR to best SSIM: {', '.join(names)}."


show(state.current())
