"""A counter and a file in Streamlit's session state: the memory of one pod."""

import os

import streamlit as st

POD = os.environ.get("POD_NAME", "pod")

lost = st.context.headers.get("X-Session-Lost")
if lost and not st.session_state:
    st.warning(f"Your session was lost, please begin again ({lost}).")

if st.button("Count"):
    st.session_state.count = st.session_state.get("count", 0) + 1
st.write(f"{st.session_state.get('count', 0)} counted by {POD}")

if file := st.file_uploader("File"):  # its upload is a request of its own: it must reach the same pod
    st.write(f"{len(file.getvalue())} bytes at {POD}")
