"""A run as one offline page: numbers, curves, samples, images and recordings in a single HTML file that asks for nothing else."""

from omnictl.report.pages import live_page as live_page
from omnictl.report.pages import write_pipeline_report as write_pipeline_report
from omnictl.report.pages import write_report as write_report
