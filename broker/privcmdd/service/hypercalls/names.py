# SPDX-License-Identifier: Apache-2.0
"""The names of the operations of Xen's interface, for messages about those that have no answer here."""

from __future__ import annotations

from typing import Final


def named(kind: str, number: int) -> str:
    """An operation by its name, as "domctl getvcpuinfo"; by its number when Xen has no such operation."""
    return f"{kind} {NAMES[kind].get(number) or SINCE_4_20.get(kind, {}).get(number, number)}"


def ioctl_named(device: str, number: int) -> str:
    """An ioctl that a device does not have here, by its number, and by its name if a real host's has it."""
    name = IOCTLS[device].get(number & IOCTL_NUMBER)
    return f"{name} ({number:#x})" if name else hex(number)


def _numbered(text: str) -> dict[int, str]:
    return {int(number): name for number, _, name in (word.partition(":") for word in text.split())}


# __HYPERVISOR_*, XENMEM_*, XENVER_*, MMUEXT_*, SCHEDOP_*, EVTCHNOP_*, HVMOP_*, XEN_SYSCTL_*, XEN_DOMCTL_* and
# XEN_DMOP_* of xen/include/public.
NAMES: Final = {
    "hypercall": _numbered(
        """
        0:set_trap_table 1:mmu_update 2:set_gdt 3:stack_switch 4:set_callbacks 5:fpu_taskswitch
        6:sched_op_compat 7:platform_op 8:set_debugreg 9:get_debugreg 10:update_descriptor 12:memory_op
        13:multicall 14:update_va_mapping 15:set_timer_op 16:event_channel_op_compat 17:xen_version
        18:console_io 19:physdev_op_compat 20:grant_table_op 21:vm_assist 22:update_va_mapping_otherdomain
        23:iret 24:vcpu_op 25:set_segment_base 26:mmuext_op 27:xsm_op 28:nmi_op 29:sched_op 30:callback_op
        31:xenoprof_op 32:event_channel_op 33:physdev_op 34:hvm_op 35:sysctl 36:domctl 37:kexec_op 38:tmem_op
        39:argo_op 40:xenpmu_op 41:dm_op 42:hypfs_op 48:arch_0 49:arch_1 50:arch_2 51:arch_3 52:arch_4
        53:arch_5 54:arch_6 55:arch_7
        """
    ),
    "memory_op": _numbered(
        """
        0:increase_reservation 1:decrease_reservation 2:maximum_ram_page 3:current_reservation
        4:maximum_reservation 5:machphys_mfn_list 6:populate_physmap 7:add_to_physmap 9:memory_map
        10:machine_memory_map 11:exchange 12:machphys_mapping 13:set_memory_map 14:maximum_gpfn
        15:remove_from_physmap 16:set_pod_target 17:get_pod_target 18:get_sharing_freed_pages
        19:get_sharing_shared_pages 20:paging_op 21:access_op 22:sharing_op 23:add_to_physmap_batch
        24:claim_pages 25:machphys_compat_mfn_list 26:get_vnumainfo 27:reserved_device_memory_map
        28:acquire_resource
        """
    ),
    "xen_version": _numbered(
        """
        0:version 1:extraversion 2:compile_info 3:capabilities 4:changeset 5:platform_parameters 6:get_features
        7:pagesize 8:guest_handle 9:commandline 10:build_id
        """
    ),
    "mmuext_op": _numbered(
        """
        0:pin_l1_table 1:pin_l2_table 2:pin_l3_table 3:pin_l4_table 4:unpin_table 5:new_baseptr
        6:tlb_flush_local 7:invlpg_local 8:tlb_flush_multi 9:invlpg_multi 10:tlb_flush_all 11:invlpg_all
        12:flush_cache 13:set_ldt 15:new_user_baseptr 16:clear_page 17:copy_page 18:flush_cache_global
        19:mark_super 20:unmark_super
        """
    ),
    "sched_op": _numbered(
        """
        0:yield 1:block 2:shutdown 3:poll 4:remote_shutdown 5:shutdown_code 6:watchdog 7:pin_override
        """
    ),
    "grant_table_op": _numbered(
        """
        0:map_grant_ref 1:unmap_grant_ref 2:setup_table 3:dump_table 4:transfer 5:copy 6:query_size
        7:unmap_and_replace 8:set_version 9:get_status_frames 10:get_version 11:swap_grant_ref 12:cache_flush
        """
    ),
    "event_channel_op": _numbered(
        """
        0:bind_interdomain 1:bind_virq 2:bind_pirq 3:close 4:send 5:status 6:alloc_unbound 7:bind_ipi
        8:bind_vcpu 9:unmask 10:reset 11:init_control 12:expand_array 13:set_priority
        """
    ),
    "hvm_op": _numbered(
        """
        0:set_param 1:get_param 5:flush_tlbs
        9:pagetable_dying 10:get_time 11:xentrace 12:set_mem_access 13:get_mem_access 15:get_mem_type
        23:set_evtchn_upcall_vector 24:guest_request_vm_event 25:altp2m
        """
    ),
    "sysctl": _numbered(
        """
        1:readconsole 2:tbuf_op 3:physinfo 4:sched_id 5:perfc_op 6:getdomaininfolist 7:debug_keys 8:getcpuinfo
        9:availheap 10:get_pmstat 11:cpu_hotplug 12:pm_op 14:page_offline_op 15:lockprof_op 16:cputopoinfo
        17:numainfo 18:cpupool_op 19:scheduler_op 20:coverage_op 21:psr_cmt_op 22:pcitopoinfo 23:psr_alloc
        25:get_cpu_levelling_caps 26:get_cpu_featureset 27:livepatch_op 29:get_cpu_policy
        """
    ),
    "cpupool_op": _numbered(
        """
        1:create 2:destroy 3:info 4:addcpu 5:rmcpu 6:movedomain 7:freeinfo
        """
    ),
    "domctl": _numbered(
        """
        1:createdomain 2:destroydomain 3:pausedomain 4:unpausedomain 5:getdomaininfo 9:setvcpuaffinity
        10:shadow_op 11:max_mem 12:setvcpucontext 13:getvcpucontext 14:getvcpuinfo 15:max_vcpus
        16:scheduler_op 17:setdomainhandle 18:setdebugging 19:irq_permission 20:iomem_permission
        21:ioport_permission 22:hypercall_init 24:settimeoffset 25:getvcpuaffinity
        27:resumedomain 28:sendtrigger 29:subscribe 33:gethvmcontext 34:sethvmcontext 35:set_address_size
        36:get_address_size 37:assign_device 38:bind_pt_irq 39:memory_mapping 40:ioport_mapping
        42:set_ext_vcpucontext 43:get_ext_vcpucontext 45:test_assign_device 46:set_target 47:deassign_device
        48:unbind_pt_irq 50:get_device_group 54:debug_op 55:gethvmcontext_partial 56:vm_event_op
        57:mem_sharing_op 59:gettscinfo 60:settscinfo 61:getpageframeinfo3 62:setvcpuextstate
        63:getvcpuextstate 64:set_access_required 65:audit_p2m 66:set_virq_handler 67:set_broken_page_p2m
        68:setnodeaffinity 69:getnodeaffinity 71:cacheflush 72:get_vcpu_msrs 73:set_vcpu_msrs 74:setvnumainfo
        75:psr_cmt_op 77:monitor_op 78:psr_alloc 79:soft_reset 81:vuart_op 82:get_cpu_policy 83:set_cpu_policy
        84:vmtrace_op 85:get_paging_mempool_size 86:set_paging_mempool_size 1000:gdbsx_guestmemio
        1001:gdbsx_pausevcpu 1002:gdbsx_unpausevcpu 1003:gdbsx_domstatus
        """
    ),
    "dm_op": _numbered(
        """
        1:create_ioreq_server 2:get_ioreq_server_info 3:map_io_range_to_ioreq_server
        4:unmap_io_range_from_ioreq_server 5:set_ioreq_server_state 6:destroy_ioreq_server 7:track_dirty_vram
        8:set_pci_intx_level 9:set_isa_irq_level 10:set_pci_link_route 11:modified_memory 12:set_mem_type
        13:inject_event 14:inject_msi 15:map_mem_type_to_ioreq_server 16:remote_shutdown 17:relocate_memory
        18:pin_memory_cacheattr 19:set_irq_level 20:nr_vcpus
        """
    ),
}
SINCE_4_20: Final = {
    "sysctl": _numbered("30:dt_overlay"),
    "domctl": _numbered("87:dt_overlay 88:gsi_permission 89:set_llc_colors"),
}

# IOCTL_* of Linux' include/uapi/xen that are not here, by their eight bits; the bits above say the size and the driver.
IOCTL_NUMBER: Final = 0xFF
IOCTLS: Final = {
    "privcmd": _numbered("8:IRQFD 9:IOEVENTFD 10:PCIDEV_GET_GSI"),
    "gntdev": _numbered(
        """
        9:DMABUF_EXP_FROM_REFS 10:DMABUF_EXP_WAIT_RELEASED 11:DMABUF_IMP_TO_REFS 12:DMABUF_IMP_RELEASE
        """
    ),
    "gntalloc": {},
    "evtchn": _numbered("7:BIND_STATIC"),
}
